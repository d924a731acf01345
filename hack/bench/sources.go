package main

import (
	"fmt"
	"strings"
)

// sourceFiles are the Dockerfiles and the contexts that are no larger than a page:
// path below the inputs' directory -> content. Every Dockerfile is alone in its
// directory, beside its context.
var sourceFiles = map[string]string{
	"busybox/Dockerfile": `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/usr/local/go/bin:/bin
`,
	"golang/Dockerfile": `FROM busybox
RUN mkdir -m 1777 /tmp
COPY . /usr/local/go
`,
	"stages/Dockerfile": `FROM busybox AS deps
WORKDIR /src
COPY deps.txt .
RUN sort deps.txt > /deps.sorted

FROM deps AS app
COPY src .
RUN cat /deps.sorted app.txt > /app

FROM deps AS assets
COPY assets .
RUN cat /deps.sorted page.txt > /page

FROM busybox
COPY --from=app /app /srv/app
COPY --from=assets /page /srv/page
CMD ["cat", "/srv/app"]
`,
	"stages/context/deps.txt":        "b\na\n",
	"stages/context/src/app.txt":     "app\n",
	"stages/context/assets/page.txt": "page\n",

	"steps/Dockerfile":   "FROM busybox\n" + numbered(steps, "RUN echo %[1]d > /step%[1]d\n"),
	"steps/context/none": "",

	"files/Dockerfile": "FROM busybox\nCOPY . /data\n",

	"toolchain/Dockerfile": `FROM busybox AS sdk
COPY . /usr/local/go

FROM busybox
COPY --from=sdk /usr/local/go /opt/go
`,
	"go/Dockerfile": `FROM golang AS build
WORKDIR /src
COPY go.mod .
COPY *.go .
RUN CGO_ENABLED=0 GOTOOLCHAIN=local go build -trimpath -o /app .

FROM scratch
COPY --from=build /app /app
ENTRYPOINT ["/app"]
`,
	"go/context/go.mod": "module bench\n\ngo 1.26\n",
	"go/context/main.go": `// Command bench prints a text through a few packages of the standard library.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"text/template"
)

func main() {
	line := template.Must(template.New("").Parse("{{.Text}}\n"))
	b, err := json.Marshal(map[string]string{"Text": text})
	if err != nil {
		panic(err)
	}
	var v struct{ Text string }
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "%x\n", sha256.Sum256(b))
	if err := line.Execute(os.Stdout, v); err != nil {
		panic(err)
	}
}
`,
}

// steps is how many RUN steps the steps file has.
const steps = 20

// numbered returns line n times, with the numbers from 1.
func numbered(n int, line string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i+1)
	}
	return b.String()
}
