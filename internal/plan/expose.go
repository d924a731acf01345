package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"stagecraft/internal/graph"
)

// addExpose adds ports, given as port[-port][/protocol].
func (b *stageBuilder) addExpose(c *instructions.ExposeCommand) error {
	var ports []string
	for _, given := range c.Ports {
		words, err := b.expand.split(given, b.env)
		if err != nil {
			return b.fail(c, err)
		}
		for _, w := range words {
			ps, err := b.ports(c, w)
			if err != nil {
				return err
			}
			ports = append(ports, ps...)
		}
	}
	for _, p := range ports {
		put(&b.sets.ports, p, struct{}{})
	}
	b.commit(fmt.Sprintf("EXPOSE %v", ports), graph.None)
	return nil
}

// ports lists what one word exposes. A host part, as in "8080:80", is accepted
// with a warning and dropped, as docker does.
func (b *stageBuilder) ports(c *instructions.ExposeCommand, word string) ([]string, error) {
	bad := func(why string) error {
		e := b.refusef(c, "port %s: %s", word, why)
		e.Hint = "EXPOSE 80, EXPOSE 53/udp or EXPOSE 8000-8010/tcp"
		return e
	}
	ports, protocol, _ := strings.Cut(word, "/")
	if i := strings.LastIndex(ports, ":"); i >= 0 {
		b.find(c, &linter.RuleExposeInvalidFormat, linter.RuleExposeInvalidFormat.Format(word))
		ports = ports[i+1:]
	}
	if lower := strings.ToLower(protocol); lower != protocol {
		b.find(c, &linter.RuleExposeProtoCasing, linter.RuleExposeProtoCasing.Format(word))
		protocol = lower
	}
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, bad("the protocol is none of tcp, udp, sctp")
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return nil, bad("not a number between 0 and 65535")
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return nil, bad("not a number between 0 and 65535")
	}
	if to < from {
		return nil, bad("the range ends before it starts")
	}
	// A port is 10 bytes of history or so.
	if err := b.expand.spend(10 * int(to-from+1)); err != nil {
		return nil, b.fail(c, err)
	}
	var list []string
	for n := from; n <= to; n++ {
		list = append(list, strconv.FormatUint(n, 10)+"/"+protocol)
	}
	return list, nil
}
