package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// completing is a datastore "tank" and an app that knows it.
type completing struct {
	config, run string
	store       *storetest.Store
}

func newCompleting(t *testing.T) *completing {
	t.Helper()
	s := storetest.New(t)
	for _, at := range []string{"2023-11-14T22:13:20Z", "2023-11-14T23:13:20Z"} {
		snap := s.Snapshot("host/alpha", at)
		root := storetest.Dir("", storetest.Dir("etc", storetest.File("fstab", "x\n"), storetest.File("a b", "y\n"),
			storetest.File("bad\nname", "z\n")), storetest.Symlink("lib", "usr/lib"))
		snap.Pxar("root.pxar.didx", root)
		snap.Catalog("root.pxar.didx", root)
		snap.Fixed("disk.img.fidx", 4096, make([]byte, 4096))
		snap.Finish()
	}
	secret := s.Snapshot("ns/prod/host/secret", "2023-11-14T22:13:20Z")
	secret.Key = storetest.NewKey(t, 7)
	secret.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("hidden", "x\n")))
	secret.Finish()
	c := &completing{config: t.TempDir(), run: t.TempDir(), store: s}
	c.configure(t, "datastore: tank\n\tpath "+s.Dir+"\n")
	return c
}

func (c *completing) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.config, "datastore.cfg"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// words returns what is offered for the last argument, without descriptions, and the
// directive. The program must say nothing of its own meanwhile.
func (c *completing) words(t *testing.T, args ...string) ([]string, cobra.ShellCompDirective) {
	t.Helper()
	var out, complaints bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &complaints, getenv: func(string) string { return "" }}
	cmd := newRootCommand(a)
	cmd.SetArgs(append([]string{cobra.ShellCompRequestCmd, "--config-dir", c.config, "--run-dir", c.run}, args...))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("complete %q: %v", args, err)
	}
	if said := strings.TrimSpace(complaints.String()); strings.Contains(said, "\n") || !strings.HasPrefix(said, "Completion ended") {
		t.Errorf("complete %q says %q", args, said)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	var directive cobra.ShellCompDirective
	for _, r := range strings.TrimPrefix(lines[len(lines)-1], ":") {
		directive = directive*10 + cobra.ShellCompDirective(r-'0')
	}
	words := []string{}
	for _, l := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(l, "\t")
		words = append(words, word)
	}
	slices.Sort(words)
	return words, directive
}

func TestCompletionKnowsDatastores(t *testing.T) {
	c := newCompleting(t)
	const (
		none = cobra.ShellCompDirectiveNoFileComp
		more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		dirs = cobra.ShellCompDirectiveFilterDirs
	)
	const newest, root = "host/alpha/latest/", "host/alpha/latest/root.pxar/"
	for _, test := range []struct {
		args      string // the last one is completed; _ stands for ""
		want      string
		directive cobra.ShellCompDirective
	}{
		{"ls _", "tank", none},
		{"ls t", "tank", none},
		{"ls x", "", dirs},
		{"ls /srv", "", dirs},
		{"ls .", "", dirs},
		{"ls tank _", "host/ ns/", more},
		{"ls tank ns/", "ns/prod/", more},
		{"ls tank ns/prod/h", "ns/prod/host/", more},
		{"ls tank host/", "host/alpha/", more},
		{"ls tank host/alpha/", "host/alpha/2023-11-14T22:13:20Z/ host/alpha/2023-11-14T23:13:20Z/ host/alpha/latest/", more},
		{"ls tank " + newest, newest + "catalog.pcat1 " + newest + "disk.img " + newest + "disk.img.d/ " + newest + "index.json " + root, more},
		{"ls tank " + newest + "c", newest + "catalog.pcat1", none},
		{"ls tank " + root, root + "etc/ " + root + "lib", more},
		{"ls tank /" + root + "e", "/" + root + "etc/", more},
		{"ls tank " + root + "etc/f", root + "etc/fstab", none},
		{"ls tank " + root + "etc/b", "", none}, // a line break can be in no word
		{"ls tank nothing/", "", none},
		{"ls tank " + newest + "index.json/", "", none},
		{"ls tank host/ host/", "", none},
		{"ls tank ns/prod/host/secret/latest/root.pxar/", "", none}, // no passphrase is asked for
		{"ls nothing host/", "", none},
		{"ls s3://bucket/tank host/", "", none},
		{"cat tank host/alpha/latest/index.json " + newest + "i", newest + "index.json", none},
		{"find tank h", "host/", more},
		{"usage tank h", "host/", more},
		{"verify tank host ns/", "ns/prod/", more},
		{"key recover tank h", "host/", more},
		{"history tank host/", "host/alpha/", more},
		{"history tank host/alpha/r", "host/alpha/root.pxar/", more},
		{"history tank host/alpha/root.pxar/etc/f", "host/alpha/root.pxar/etc/fstab", none},
		{"diff tank host/alpha/latest host/alpha/l", "host/alpha/latest/", more},
		{"diff tank host/alpha/latest host/alpha/latest r", "root.pxar/", more},
		{"diff tank host/alpha/latest host/alpha/latest root.pxar/etc/f", "root.pxar/etc/fstab", none},
		{"restore tank h", "host/", more},
		{"restore tank host/alpha/latest n", "ns/", more},
		{"restore tank host/alpha/latest _", "", dirs},
		{"restore tank host/alpha/latest /", "", dirs},
		{"restore tank host/alpha/latest out", "", dirs},
		{"status _", "tank", none},
		{"serve tank _", "tank", none},
		{"maintenance set _", "tank", none},
		{"maintenance set tank r", "read-only", none},
		{"maintenance clear t", "tank", none},
		{"datastore remove _", "tank", none},
		{"mount _", "tank", none},
		{"mount tank _", "", dirs},
		{"mount --device /dev/x _", "", dirs},
		{"mount --auto /no/such", "", none},
		{"mount --auto /dev/x _", "", none},
		{"unmount t", "tank", none},
		{"restore --overwrite ol", "older", none},
		{"find --type l", "l", none},
		{"snapshot create --type v", "vm", none},
		{"ls --config-dir _", "", dirs},
		{"ls --cache-size _", "", none},
		{"completion z", "zsh", none},
		{"device list _", "", none},
	} {
		args := strings.Fields(test.args)
		for i, arg := range args {
			if arg == "_" {
				args[i] = ""
			}
		}
		words, directive := c.words(t, args...)
		if got := strings.Join(words, " "); got != test.want || directive != test.directive {
			t.Errorf("%s: got %q with %d, want %q with %d", test.args, got, directive, test.want, test.directive)
		}
	}
	if words, _ := c.words(t, "ls", "tank", root+"etc/a"); !slices.Equal(words, []string{root + "etc/a b"}) {
		t.Errorf("a name with a space: %q", words)
	}
	if words, _ := c.words(t, "ls", c.store.Dir, "ho"); !slices.Equal(words, []string{"host/"}) {
		t.Errorf("a datastore by its path: %q", words)
	}
}

func TestCompletionIsRefusedAsAnyRead(t *testing.T) {
	c := newCompleting(t)
	if words, _ := c.words(t, "ls", "tank", "ho"); len(words) == 0 {
		t.Fatal("nothing is offered: the test is about nothing")
	}
	c.configure(t, "datastore: tank\n\tpath "+c.store.Dir+"\n\tmaintenance-mode offline\n")
	if words, _ := c.words(t, "ls", "tank", "ho"); len(words) > 0 {
		t.Errorf("offline, and still read: %q", words)
	}
	if words, _ := c.words(t, "ls", "t"); !slices.Equal(words, []string{"tank"}) {
		t.Errorf("offline, the name is %q", words)
	}
}

func TestEveryFlagHasACompletion(t *testing.T) {
	each(newRootCommand(&app{}), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if _, ok := cmd.GetFlagCompletionFunc(f.Name); !ok && f.Value.Type() != "bool" {
				t.Errorf("%s --%s: a shell would complete files", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// each calls fn for a command and all below it.
func each(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, c := range cmd.Commands() {
		each(c, fn)
	}
}

// The scripts run in real shells, which must understand them. In bash the functions are
// called as the shell does; what it shows is in COMPREPLY.
func TestCompletionScriptsRunInTheirShells(t *testing.T) {
	c := newCompleting(t)
	bin := filepath.Join(t.TempDir(), "pbsfs")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	env := append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"),
		"PBSFS_CONFIG_DIR="+c.config, "PBSFS_RUN_DIR="+c.run, "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	for shell, script := range map[string]string{
		"bash": `. /usr/share/bash-completion/bash_completion; . <(pbsfs completion bash)
			try() {
				COMP_LINE=$1; COMP_POINT=${#1}; COMP_TYPE=9; COMP_KEY=9; COMPREPLY=(); shift
				COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
				__start_pbsfs; printf '%s\n' "${COMPREPLY[@]}"
			}
			try "pbsfs ls ta" pbsfs ls ta
			try "pbsfs ls tank host/alpha/latest/root.pxar/etc/f" pbsfs ls tank host/alpha/latest/root.pxar/etc/f
			try "pbsfs ls tank host/alpha/2023-11-14T22:13:20Z/root" pbsfs ls tank host/alpha/2023-11-14T22 : 13 : 20Z/root
			try "pbsfs ls tank host/alpha/latest/root.pxar/etc/a" pbsfs ls tank host/alpha/latest/root.pxar/etc/a`,
		"zsh":  `autoload -U compinit; compinit -u -D; . <(pbsfs completion zsh); print ${_comps[pbsfs]}`,
		"fish": `pbsfs completion fish | source; complete -C 'pbsfs ls ta'; complete -C 'pbsfs ls tank host/alpha/latest/root.pxar/etc/f'`,
	} {
		want := map[string]string{
			// bash cuts words at colons, and adds what comes after the last one.
			"bash": "tank\nhost/alpha/latest/root.pxar/etc/fstab\n20Z/root.pxar/\nhost/alpha/latest/root.pxar/etc/a\\ b\n",
			"zsh":  "_pbsfs\n",
			"fish": "tank\t" + c.store.Dir + "\nhost/alpha/latest/root.pxar/etc/fstab\n",
		}[shell]
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Errorf("%s is not installed: make setup", shell)
			continue
		}
		cmd := exec.Command(path, "-c", script)
		cmd.Env = env
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || string(out) != want || complaints.Len() > 0 {
			t.Errorf("%s: %v, got %q, want %q; it says %q", shell, err, out, want, complaints.String())
		}
	}
}
