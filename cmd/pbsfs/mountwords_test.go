package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Each flag of the mount command is a word of -o, except those that make no sense there.
func TestEachFlagIsAMountOption(t *testing.T) {
	values := map[string]string{
		"bool": "", "string": "=x", "stringArray": "=x", "duration": "=3s", "int": "=7", "SIZE": "=1MiB", "FORMAT": "=json",
	}
	newMountCommand(&app{}).Flags().VisitAll(func(f *pflag.Flag) {
		value, known := values[f.Value.Type()]
		if !known {
			t.Fatalf("--%s: no value of type %s is known here", f.Name, f.Value.Type())
		}
		for _, word := range []string{f.Name + value, strings.ReplaceAll(f.Name, "-", "_") + value} {
			var m mountFlags
			flags := newMountCommand(&app{}).Flags()
			err := m.parse([]string{"ro," + word}, flags)
			switch f.Name {
			case "auto": // a word of fstab, which says something else
				if err != nil || flags.Lookup(f.Name).Changed {
					t.Errorf("-o %s: got %v, changed %t", word, err, flags.Lookup(f.Name).Changed)
				}
				continue
			case "options", "foreground", againFlag, fakeFlag:
				if exitCode(err) != exitUsage {
					t.Errorf("-o %s: got %v, want a usage error", word, err)
				}
				continue
			case "allow-other":
				if err != nil || !m.allowOther && flags.Lookup(f.Name).Value.String() != "true" {
					t.Errorf("-o %s: got %+v and %v", word, m, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("-o %s: %v", word, err)
				continue
			}
			got := flags.Lookup(f.Name)
			if want := strings.Trim(got.Value.String(), "[]"); !got.Changed || value != "" && want != value[1:] || value == "" && want != "true" {
				t.Errorf("-o %s: the flag is %q, changed %t", word, got.Value, got.Changed)
			}
		}
	})
}

func TestKeysAsMountOptions(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
		fail string // in the error
	}{
		{"keyfile=/a", []string{"/a"}, ""},
		{"keyfile=/a,ro,keyfile=/b", []string{"/a", "/b"}, ""},
		{"keyfile=/a,password-file=/p,keyfile=/b,password_cmd=pass x", []string{"/a,password-file=/p", "/b,password-cmd=pass x"}, ""},
		{`keyfile="/a,b",ro`, []string{"/a,b"}, ""},
		{`keyfile="/a,password-cmd=x a,b"`, []string{"/a,password-cmd=x a,b"}, ""},
		{"password_file=/p", nil, "belongs after keyfile="},
		{"keyfile", nil, "needs a value"},
		{"keyfile=", nil, "needs a value"},
		{"standby=yes", nil, "takes no value"},
		{"cache_size=much", nil, "no size"},
		{"parallel=x", nil, "mount option parallel=x"},
		{"nosuchword=1", nil, "unknown mount option nosuchword=1"},
		{"foreground", nil, "--foreground"},
	} {
		var m mountFlags
		flags := newMountCommand(&app{}).Flags()
		err := m.parse([]string{c.list}, flags)
		if c.fail != "" {
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("-o %s: got %v, want a usage error with %q", c.list, err, c.fail)
			}
			continue
		}
		got := flags.Lookup("keyfile").Value.(pflag.SliceValue).GetSlice()
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("-o %s: got %q and %v, want %q", c.list, got, err, c.want)
		}
	}
}
