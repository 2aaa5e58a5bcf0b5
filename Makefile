# pbsfs: build, test and measure. Each target sets up what it needs.
#
#   make            build bin/pbsfs, one static binary
#   make demo       make a small datastore, mount it, and walk through it;
#                   ARGS=--clean leaves nothing behind
#   make test       all tests, with the race detector; TESTS='^Name' for some
#   make unit       the tests of packages alone, without mounts; with
#                   GOMAXPROCS=1 they show what needs a second processor
#   make soak       the tests that find more the longer they run, for SOAK each
#   make lint       vet, staticcheck, golangci-lint
#   make man        write the manual pages into $(OUT)/man
#   make install    install below DESTDIR, for PREFIX: the program, manual pages,
#                   completions, what is in dist, and the documentation
#   make deb        make Debian packages in $(OUT), for each of ARCHES
#   make vuln       look for known vulnerabilities in what we use
#   make fuzz       fuzz each decoder (FUZZTIME each, 30s by default)
#   make bench      measure mounts beside raw files, a FUSE server with the same
#                   tree in memory, squashfs and restic, with
#                   data of size SCALE (1 is 1.4 GB in 75,000 entries and an
#                   image of 4 GiB) in ROUNDS rounds, and the decoders, for
#                   BENCHTIME each, COUNT times; every sample goes to bench.json.
#                   OFFICIAL=proxmox-backup-client measures that client, too, with
#                   the server that PBS_REPOSITORY names
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
SOAK      ?= 10m
PREFIX    ?= /usr/local
DESTDIR   ?=
ARCH      ?= $(shell $(GO) env GOARCH)
ARCHES    ?= amd64 arm64
OUT       ?= bin
TOOL      := $(GO) tool -modfile=.ci/tools.mod

# What the tests and benchmarks run, by the Debian package that has it. The
# first column is a program, or the path of a file, that tells whether it is installed.
PACKAGES := fusermount3:fuse3 mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs \
            gcc:gcc rsync:rsync qemu-img:qemu-utils getfattr:attr getfacl:acl zstd:zstd \
            squashfuse:squashfuse mksquashfs:squashfs-tools setcap:libcap2-bin \
            mkfs.vfat:dosfstools mkfs.exfat:exfatprogs cryptsetup:cryptsetup-bin \
            smbd:samba smbclient:smbclient mcopy:mtools mkntfs:ntfs-3g mount.exfat-fuse:exfat-fuse sfdisk:fdisk \
            chromium:chromium npm:npm python3:python3 zsh:zsh fish:fish man:man-db groff:groff-base mandoc:mandoc lintian:lintian mmdebstrap:mmdebstrap ip:iproute2 curl:curl \
            /usr/share/bash-completion/bash_completion:bash-completion \
            systemd-analyze:systemd setpriv:util-linux mount:mount
NEEDED_TO_MOUNT := fusermount3:fuse3
NEEDED_TO_DEMO  := $(NEEDED_TO_MOUNT) mkfs.ext4:e2fsprogs

# Tests of integration that look at no mounts and devices but their own: they run beside
# the rest, which cannot run beside itself.
APART := $(shell sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t \*testing.T).*/\1/p' \
           $(foreach about,browser bucket complete damage_matrix guide hostile metrics restore salvage search serve share soak usage verify,$(wildcard integration/$(about)*_test.go)) | paste -sd'|')

RACE = -race -timeout 20m $(if $(TESTS),-run '$(TESTS)')

# Tests that go on for soakTime.
SOAKING := $(shell sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t \*testing.T).*/\1/p' \
             $(wildcard integration/soak_*_test.go) integration/churn_test.go | paste -sd'|')

.PHONY: all build man completions install deb setup setup-mount setup-demo setup-peers demo mount test unit soak lint vuln fuzz setup-bench bench bench-compare bench-growth clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o $(OUT)/pbsfs ./cmd/pbsfs

# What is installed and packaged is the same for the same commit: it has the time of that.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
export SOURCE_DATE_EPOCH

# The version of a tag, with what came after it; without tags, the day and the commit.
VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/; s/-/./'),\
                0~$(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y%m%d).$(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),0))
MAINTAINER ?= The pbsfs authors <pbsfs@users.noreply.github.com>

man: build
	rm -rf $(OUT)/man
	$(OUT)/pbsfs man $(OUT)/man

completions: build
	mkdir -p $(OUT)/completions
	for shell in bash zsh fish; do $(OUT)/pbsfs completion $$shell >$(OUT)/completions/$$shell || exit 1; done

# Files in DIST go where they are looked for: those for systemd, and rules for udev; others
# are for people. They name the program as it is in a package.
dist-dir = $(PREFIX)/$(if $(filter systemd,$(1)),lib/systemd/system,$(if $(filter udev,$(1)),lib/udev/rules.d,share/pbsfs/$(1)))
TO  := $(DESTDIR)$(PREFIX)
DOC := $(TO)/share/doc/pbsfs
ZSH := $(TO)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

DIST ?= dist

# Other names of the program, by which mount(8) finds it.
HELPERS ?= mount.pbsfs mount.fuse.pbsfs

install: man completions
	mkdir -p $(OUT)/dist/$(ARCH)
	CGO_ENABLED=0 GOARCH=$(ARCH) $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(OUT)/dist/$(ARCH)/pbsfs ./cmd/pbsfs
	install -d -m 755 "$(TO)/bin" "$(TO)/share/man/man8" "$(DOC)/docs" "$(TO)/share/bash-completion/completions" \
		"$(ZSH)" "$(TO)/share/fish/vendor_completions.d"
	install -m 755 $(OUT)/dist/$(ARCH)/pbsfs "$(TO)/bin/pbsfs"
	for page in $(OUT)/man/*; do gzip -9n <$$page >"$(TO)/share/man/man8/$${page##*/}.gz" || exit 1; done
	install -m 644 $(OUT)/completions/bash "$(TO)/share/bash-completion/completions/pbsfs"
	install -m 644 $(OUT)/completions/zsh "$(ZSH)/_pbsfs"
	install -m 644 $(OUT)/completions/fish "$(TO)/share/fish/vendor_completions.d/pbsfs.fish"
	install -m 644 README.md SECURITY.md packaging/copyright "$(DOC)"
	install -m 644 docs/* "$(DOC)/docs"
	gzip -9n <CHANGELOG.md >"$(DOC)/CHANGELOG.md.gz"
	GOARCH=$(ARCH) $(GO) list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/pbsfs | sort -u | \
		while read -r path version dir; do \
			for file in "$$dir"/LICEN[SC]E* "$$dir"/COPYING* "$$dir"/NOTICE*; do \
				[ ! -f "$$file" ] || { echo "==== $$path $$version: $${file##*/}"; cat "$$file"; echo; }; \
			done; \
		done | gzip -9n >"$(DOC)/licenses.gz"
	$(foreach d,$(notdir $(wildcard $(DIST)/*)),install -d -m 755 "$(DESTDIR)$(call dist-dir,$(d))" && \
		for file in $(DIST)/$(d)/*; do \
			to="$(DESTDIR)$(call dist-dir,$(d))/$${file##*/}"; \
			sed 's|/usr/bin/pbsfs|$(PREFIX)/bin/pbsfs|g' "$$file" >"$$to" && chmod 644 "$$to" || exit 1; \
		done && ):
	$(if $(HELPERS),install -d -m 755 "$(TO)/sbin" && for helper in $(HELPERS); do ln -sf ../bin/pbsfs "$(TO)/sbin/$$helper" || exit 1; done)
	chmod -R u=rwX,go=rX "$(TO)/share/man/man8"/*pbsfs* "$(DOC)"

bin/nfpm: .ci/package.mod
	CGO_ENABLED=0 $(GO) build -modfile=.ci/package.mod -o $@ github.com/goreleaser/nfpm/v2/cmd/nfpm

# The packager runs in a directory that has what is installed, and what Debian wants beside it.
deb: bin/nfpm
	set -e; for arch in $(ARCHES); do \
		at=$(abspath $(OUT))/package/$$arch; rm -rf $$at; mkdir -p $$at; cp -r packaging $$at; \
		$(MAKE) install DESTDIR=$$at/root PREFIX=/usr ARCH=$$arch; \
		install -d -m 755 $$at/root/etc/pbsfs $$at/root/usr/share/lintian/overrides; \
		install -m 644 packaging/lintian-overrides $$at/root/usr/share/lintian/overrides/pbsfs; \
		printf 'pbsfs (%s) unstable; urgency=medium\n\n  * What has changed is in CHANGELOG.md.gz.\n\n -- %s  %s\n' \
			'$(VERSION)' '$(MAINTAINER)' "$$(LC_ALL=C date -u -R -d @$(SOURCE_DATE_EPOCH))" | \
			gzip -9n >$$at/root/usr/share/doc/pbsfs/changelog.gz; \
		chmod -R u=rwX,go=rX $$at/root; \
		find $$at/root -exec touch -h -d @$(SOURCE_DATE_EPOCH) {} +; \
		(cd $$at && ARCH=$$arch VERSION='$(VERSION)' MAINTAINER='$(MAINTAINER)' \
			$(CURDIR)/bin/nfpm package -f packaging/nfpm.yaml -p deb -t $(abspath $(OUT))/pbsfs_'$(VERSION)'_$$arch.deb); \
	done

# install-missing names or installs the packages of $(1) whose file is missing.
define install-missing
	@missing=; for p in $(1); do \
		case $$p in /*) [ -e "$${p%%:*}" ];; *) PATH="$$PATH:/usr/sbin:/sbin" command -v "$${p%%:*}";; esac >/dev/null || missing="$$missing $${p##*:}"; \
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
	$(GO) test $(RACE) -p 2 ./cmd/... ./store/... ./packaging & beside=$$!; \
	$(if $(TESTS),true,$(GO) test $(RACE) -run '^($(APART))$$' ./integration) & apart=$$!; \
	$(GO) test $(RACE) -p 1 $(if $(TESTS),,-skip '^($(APART))$$') $$($(GO) list ./... | grep -v -e /cmd/ -e /store -e /packaging) && inorder=0 || inorder=$$?; \
	wait $$beside && wait $$apart && exit $$inorder

# Many of these tests wait more than they compute, whatever GOMAXPROCS is.
unit:
	$(GO) test -count=1 -p 3 $(if $(TESTS),-run '$(TESTS)') $$($(GO) list ./... | grep -v -e /integration -e /packaging)

soak: setup setup-peers
	PBSFS_SOAK=$(SOAK) $(GO) test -race -count=1 -timeout 0 -v -run '^($(SOAKING))$$' ./integration

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
	@grep -r --include='*_test.go' --exclude-dir=bin '^func Fuzz' . | sed 's|/[^/]*:func \(Fuzz[A-Za-z0-9_]*\).*| \1|' | sort | \
	xargs -P 2 -L 1 sh -c 'echo "$$0 $$1"; \
		exec $(GO) test -run NONE -fuzz "^$$1\$$" -parallel 1 -fuzztime $(FUZZTIME) -fuzzminimizetime 200x "$$0"'

setup-bench: setup
	$(call install-missing,restic:restic)

# benchstat reads the output of the decoders' benchmarks; it wants COUNT=6 or
# more.
bench: setup-bench build
	@[ "$$(id -u)" = 0 ] || echo "not measured: reading with empty kernel caches (needs root)"
	$(GO) run ./integration/bench -scale $(SCALE) -rounds $(ROUNDS) -official "$(OFFICIAL)" -json bench.json
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
