# pbsfs: build, test and measure. Each target sets up what it needs.
#
#   make            build bin/pbsfs, one static binary
#   make demo       make a small datastore, mount it, and walk through it;
#                   ARGS=--clean leaves nothing behind
#   make test       all tests, with the race detector; TESTS='^Name' for some
#   make unit       the tests of packages alone, without mounts; with
#                   GOMAXPROCS=1 they show what needs a second processor
#   make lint       vet, staticcheck, golangci-lint
#   make vuln       look for known vulnerabilities in what we use
#   make fuzz       fuzz each decoder (FUZZTIME each, 30s by default)
#   make bench      measure mounts beside raw files, squashfs and restic, with
#                   data of size SCALE (1 is 1.4 GB in 75,000 entries and an
#                   image of 4 GiB) in ROUNDS rounds, and the decoders, for
#                   BENCHTIME each, COUNT times; every sample goes to bench.json
#   make bench-compare REF=v1.0
#                   measure this build beside that of a commit
#   make bench-growth
#                   plot how time and memory grow with the size of the data

GO        ?= go
FUZZTIME  ?= 30s
ROUNDS    ?= 5
SCALE     ?= 0.1
BENCHTIME ?= 200ms
COUNT     ?= 1
TESTS     ?=
TOOL      := $(GO) tool -modfile=.ci/tools.mod

# What the tests and benchmarks run, by the Debian package that has it. The
# first column is a file that tells whether it is installed.
PACKAGES := fusermount3:fuse3 mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs \
            gcc:gcc rsync:rsync qemu-img:qemu-utils getfattr:attr getfacl:acl zstd:zstd \
            squashfuse:squashfuse mksquashfs:squashfs-tools setcap:libcap2-bin \
            mkfs.vfat:dosfstools mkfs.exfat:exfatprogs cryptsetup:cryptsetup-bin \
            smbd:samba smbclient:smbclient mcopy:mtools mkntfs:ntfs-3g mount.exfat-fuse:exfat-fuse sfdisk:fdisk \
            chromium:chromium npm:npm python3:python3
NEEDED_TO_MOUNT := fusermount3:fuse3
NEEDED_TO_DEMO  := $(NEEDED_TO_MOUNT) mkfs.ext4:e2fsprogs

RACE = -race -p 1 -timeout 20m $(if $(TESTS),-run '$(TESTS)')

.PHONY: all build setup setup-mount setup-demo setup-peers demo mount test unit lint vuln fuzz setup-bench bench bench-compare bench-growth clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o bin/pbsfs ./cmd/pbsfs

# install-missing names or installs the packages of $(1) whose file is missing.
define install-missing
	@missing=; for p in $(1); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$${p%%:*}" >/dev/null || missing="$$missing $${p##*:}"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null; \
	else \
		echo "missing packages; please install:$$missing" >&2; exit 1; \
	fi
endef

# Samba's modules are no programs; where they have a package of their own, it is needed.
SHADOW_COPY := $(if $(wildcard /usr/lib/*/samba/vfs/shadow_copy2.so),,shadow_copy2.so:samba-vfs-modules)

setup:
	$(call install-missing,$(PACKAGES) $(SHADOW_COPY))

# What the tests use that is in no package: clients of the API that nobody here wrote,
# and what checks the page.
PEERS := bin/peers

setup-peers: $(PEERS)/venv/installed $(PEERS)/node_modules/axe-core/axe.min.js $(PEERS)/versitygw $(PEERS)/gofakes3

# Servers of object storage. They are none of our tools: they have dependencies of their own.
$(PEERS)/versitygw $(PEERS)/gofakes3: .ci/s3.mod
	CGO_ENABLED=0 $(GO) build -modfile=.ci/s3.mod -o $@ $$($(GO) list -modfile=.ci/s3.mod -f '{{.ImportPath}}' tool | grep '/$(@F)$$')

# Debian has what makes such a directory in a package of its own, without a program.
$(PEERS)/venv/installed: .ci/peers.txt | setup
	$(call install-missing,$(if $(shell python3 -c 'import ensurepip' 2>/dev/null && echo yes),,ensurepip:python3-venv))
	rm -rf $(PEERS)/venv
	python3 -m venv $(PEERS)/venv
	$(PEERS)/venv/bin/pip install -q --disable-pip-version-check --no-deps -r .ci/peers.txt
	touch $@

$(PEERS)/node_modules/axe-core/axe.min.js: | setup
	npm install --silent --no-audit --no-fund --prefix $(PEERS) axe-core@4.14.1

setup-mount:
	$(call install-missing,$(NEEDED_TO_MOUNT))

setup-demo:
	$(call install-missing,$(NEEDED_TO_DEMO))

demo: setup-demo build
	bin/pbsfs demo $(ARGS)

# make mount DATASTORE=/path MOUNTPOINT=/mnt/pbs
mount: setup-mount build
	@[ -n "$(DATASTORE)" ] && [ -n "$(MOUNTPOINT)" ] || { echo "usage: make mount DATASTORE=DIR MOUNTPOINT=DIR" >&2; exit 2; }
	mkdir -p "$(MOUNTPOINT)"
	bin/pbsfs mount "$(DATASTORE)" "$(MOUNTPOINT)"
	ls "$(MOUNTPOINT)"

test: setup setup-peers
	@[ -n "$(PBSFS_FIXTURES)" ] || echo "not covered: datastores of a real server (set PBSFS_FIXTURES to a directory of them)"
	@[ "$$(id -u)" = 0 ] || echo "not covered: tests that need root (loop devices, other users)"
	@# Tests mount as an ordinary user, too. Where no udev has done so, the FUSE
	@# device is opened to users as udev does, and gets its mode back. Packages that
	@# make mount namespaces run one after the other, because the copies of mounts in
	@# there are in the way of others; the rest runs beside them.
	@if [ "$$(id -u)" = 0 ] && [ -c /dev/fuse ]; then \
		mode=$$(stat -c %a /dev/fuse); trap "chmod $$mode /dev/fuse" EXIT; chmod 0666 /dev/fuse; \
	fi; \
	set -x; \
	$(GO) test $(RACE) ./cmd/... ./store/... & beside=$$!; \
	$(GO) test $(RACE) $$($(GO) list ./... | grep -v -e /cmd/ -e /store) && inorder=0 || inorder=$$?; \
	wait $$beside && exit $$inorder

unit:
	$(GO) test -count=1 $(if $(TESTS),-run '$(TESTS)') $$($(GO) list ./... | grep -v /integration)

lint:
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) golangci-lint run ./...

# The database is asked for over the network; where it cannot be reached, nothing
# is known, which is no failure of ours.
vuln:
	@$(TOOL) govulncheck ./... || { code=$$?; [ $$code = 3 ] && exit 3; echo "not checked: the database of vulnerabilities"; }

# Go fuzzes one target of one package at a time; two run beside each other.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		$(GO) test -list '^Fuzz' $$pkg | sed -n "s|^Fuzz|$$pkg Fuzz|p"; \
	done | xargs -P 2 -L 1 sh -c 'echo "$$0 $$1"; \
		exec $(GO) test -run NONE -fuzz "^$$1\$$" -parallel 1 -fuzztime $(FUZZTIME) -fuzzminimizetime 200x "$$0"'

setup-bench: setup
	$(call install-missing,restic:restic)

# benchstat reads the output of the decoders' benchmarks; it wants COUNT=6 or
# more.
bench: setup-bench build
	@[ "$$(id -u)" = 0 ] || echo "not measured: reading with empty kernel caches (needs root)"
	$(GO) run ./integration/bench -scale $(SCALE) -rounds $(ROUNDS) -json bench.json
	$(GO) test -run '^$$' -bench . -count $(COUNT) -benchtime $(BENCHTIME) ./store/... ./maint/... ./cmd/...
	@[ -n "$(PBSFS_FIXTURES)" ] || echo "not measured: keys, and counting operations (set PBSFS_FIXTURES to a directory of datastores)"
	$(GO) test -run '^$$' -bench . -count $(COUNT) -benchtime $(ROUNDS)x -timeout 30m -v ./integration/

bench-compare: setup-bench build
	@[ -n "$(REF)" ] || { echo "usage: make bench-compare REF=COMMIT" >&2; exit 2; }
	set -e; dir=$$(mktemp -d); trap 'git worktree remove --force "$$dir/src"; rm -rf "$$dir"' EXIT; \
	git worktree add --detach "$$dir/src" "$(REF)" >/dev/null; \
	(cd "$$dir/src" && CGO_ENABLED=0 $(GO) build -trimpath -o "$$dir/pbsfs" ./cmd/pbsfs); \
	$(GO) run ./integration/bench -scale $(SCALE) -rounds $(ROUNDS) -only pbsfs -rows "$(ROWS)" -base "$$dir/pbsfs" -bench "$$dir/samples"; \
	$(TOOL) benchstat "$$dir/samples.old" "$$dir/samples.new"

bench-growth: setup-bench build
	mkdir -p docs
	$(GO) run ./integration/bench -scale $(SCALE) -growth docs/growth.svg

clean:
	rm -rf bin
