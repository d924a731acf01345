package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
)

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		path string
		want int
	}{
		{"/healthz", http.StatusOK},
		{"/", http.StatusOK},
		{"/nowhere", http.StatusNotFound},
	} {
		answer := httptest.NewRecorder()
		routes().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, c.path, nil))
		if answer.Code != c.want {
			t.Errorf("GET %s: status %d, want %d", c.path, answer.Code, c.want)
		}
		if _, err := uuid.Parse(answer.Header().Get("X-Request-Id")); err != nil {
			t.Errorf("GET %s: request id: %v", c.path, err)
		}
	}
}
