package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuestsAreListedAsTheySigned(t *testing.T) {
	handler := routes(t.TempDir())
	for _, name := range []string{"Ada", " Grace "} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("POST", "/api/guests", strings.NewReader(name)))
		if answer.Code != 201 {
			t.Fatalf("sign %q: status %d", name, answer.Code)
		}
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/api/guests", nil))
	if got := strings.TrimSpace(answer.Body.String()); got != `["Ada","Grace"]` {
		t.Errorf("guests are %s", got)
	}
}

func TestEmptyAndLongNamesAreRefused(t *testing.T) {
	handler := routes(t.TempDir())
	for _, name := range []string{"", "  ", strings.Repeat("x", maxName+1)} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("POST", "/api/guests", strings.NewReader(name)))
		if answer.Code != 400 {
			t.Errorf("sign with %d bytes: status %d, want 400", len(name), answer.Code)
		}
	}
}
