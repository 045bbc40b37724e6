# make demo    build sbx, start a registry on loopback, push an image, run it
# make test    all tests, as an ordinary user even when root calls
#
# Neither needs anything but Go and, once, root for scripts/setup.

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
PREFIX  := $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)

# Pure Go, one static file. The tags leave out drivers of the storage library that need C.
export CGO_ENABLED := 0
TAGS := exclude_graphdriver_btrfs,exclude_graphdriver_zfs,containers_image_openpgp
export GOFLAGS     := -trimpath -tags=$(TAGS)

# Tests of the other packages run as an ordinary user; those of package main see to it themselves.
UNROOT := $(if $(filter 0,$(shell id -u)),-exec $(CURDIR)/scripts/as-user)

build: sbx

# sbx is three programs in one file; main_hot.go says why. `go build` makes the whole of it, too.
# Each is linked to addresses of its own.
LDFLAGS := -s -w -X sbx/sandbox/cli.version=$(VERSION)

OUT := sbx

.PHONY: sbx # go build knows better than make what is up to date
sbx:
	go build -ldflags '$(LDFLAGS)' -tags hot,$(TAGS) -o sbx.hot .
	go build -ldflags '$(LDFLAGS) -T 0x10011000' -tags net,$(TAGS) -o sbx.net .
	go build -ldflags '$(LDFLAGS) -T 0x20011000' -o sbx.whole .
	GOOS= GOARCH= go run ./scripts/onefile $(OUT) sbx.hot sbx-net=sbx.net sbx-whole,sbx-store,sbx-overlay,storage-=sbx.whole

install: sbx
	install -D -m 0755 sbx $(DESTDIR)$(PREFIX)/bin/sbx
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo "note: $(PREFIX)/bin is not in PATH" ;; esac

setup:
	scripts/setup

test: setup
	@status=0; \
	go test $(UNROOT) $$(go list ./... | grep -vx sbx) || status=1; \
	go test -timeout 40m . || status=1; \
	exit $$status

# make e2e SCRIPT=volume
e2e: setup
	@ls testdata/script | grep -qE '^($(or $(SCRIPT),.*))\.txtar$$' || { echo "no script $(SCRIPT)" >&2; exit 1; }
	go test -count=1 -run 'TestScript/$(if $(SCRIPT),^$(SCRIPT)$$)' $(if $(SCRIPT),-v) .

# make fuzz-net TIME=5m: what a sandbox may send, for that long; then what is parsed by itself, so
# many times: when a time is up, `go test -fuzz` now and then calls that a failure
TIME ?= 1m
fuzz-net: setup
	SBX_GARBAGE=$(TIME) go test $(UNROOT) -count=1 -timeout 0 -v -run 'TestGarbage|TestFloods' ./slirp
	@for package in ./slirp ./slirp/egress; do \
		for fuzz in $$(go test -list '^Fuzz' $$package | grep ^Fuzz); do \
			go test -run '^$$' -fuzz "^$$fuzz\$$" -fuzztime 200000x $$package || exit; \
		done; \
	done

lint:
	scripts/lint

startup:
	go test -count=1 -run TestStartup -v .

bench: setup
	scripts/bench

bench-net: setup
	scripts/bench-net

bench-fs: setup
	scripts/bench-fs

demo: setup
	scripts/demo

clean:
	rm -f sbx sbx.hot sbx.net sbx.whole

.PHONY: build install setup test e2e fuzz-net lint startup bench bench-net bench-fs demo clean
