// Command guestbook serves the front end in /public and keeps the names that visitors leave.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

const maxName = 100 // bytes

// guestbook is the names, in the order they came.
type guestbook struct {
	mu    sync.Mutex
	names []string
}

func (g *guestbook) list(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(append([]string{}, g.names...))
}

func (g *guestbook) sign(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxName))
	name := strings.TrimSpace(string(body))
	if err != nil || name == "" {
		http.Error(w, fmt.Sprintf("a name has 1 to %d bytes", maxName), http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.names = append(g.names, name)
	w.WriteHeader(http.StatusCreated)
}

func routes(public string) http.Handler {
	book := new(guestbook)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /api/guests", book.list)
	mux.HandleFunc("POST /api/guests", book.sign)
	mux.Handle("GET /", http.FileServer(http.Dir(public)))
	return mux
}

func main() {
	port := cmp.Or(os.Getenv("PORT"), "8080")
	log.Printf("listening on port %s", port)
	log.Fatal(http.ListenAndServe(":"+port, routes(cmp.Or(os.Getenv("PUBLIC"), "/public"))))
}
