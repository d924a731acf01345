# make help lists the targets. Everything they make goes to bin/ and .work/; `make clean` removes both.
.DEFAULT_GOAL := build

export STAGECRAFT_ROOT ?= $(CURDIR)/.work/store

# What the tests hold our images against, and what base images are made with.
TEST_PACKAGES := skopeo umoci docker-registry busybox-static podman buildah runc mmdebstrap
DEMO_PACKAGES := ca-certificates mmdebstrap

# Packages where goroutines share state.
RACE_PACKAGES ?= ./cmd/... ./internal/...
FUZZTIME ?= 20s

.PHONY: build
build: ## bin/stagecraft, one static file
	CGO_ENABLED=0 go build -trimpath -o bin/stagecraft ./cmd/stagecraft

.PHONY: test
test: setup-test build ## set-up and all tests
	go test ./...

.PHONY: race
race: setup-test build ## all tests under the race detector
	go test -race $(RACE_PACKAGES)

.PHONY: lint
lint: ## gofmt and go vet
	@unformatted=$$(gofmt -l cmd internal hack examples *.go); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	go vet ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@go list ./... | while read -r package; do \
	  go test -list '^Fuzz' "$$package" | grep '^Fuzz' | while read -r target; do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package" </dev/null || exit 1; \
	  done || exit 1; \
	done

.PHONY: bench
bench: setup-test build ## stagecraft against other builders, as ratios; BUILDKITD and BUILDCTL name BuildKit's binaries
	go run ./hack/bench

.PHONY: bases
bases: setup-demo build ## base images out of the distribution's packages, into the local store
	go run ./hack/bases

.PHONY: demo
demo: setup-demo build ## all examples, and a table of their sizes; BASES=registry|own|DIR says where base images come from
	go run ./hack/demo -bases "$(BASES)"

.PHONY: clean
clean: ## remove all that was made here
	rm -rf bin .work

.PHONY: setup-test
setup-test:
	@hack/setup $(TEST_PACKAGES)

.PHONY: setup-demo
setup-demo:
	@hack/setup $(DEMO_PACKAGES)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8
