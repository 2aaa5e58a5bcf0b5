package main

import "testing"

func TestDiskCacheDirectory(t *testing.T) {
	for _, c := range []struct {
		name string
		off  bool
		uid  int
		vars map[string]string
		want string
	}{
		{"a user's", false, 1000, map[string]string{"HOME": "/home/u"}, "/home/u/.cache/pbsfs/metadata"},
		{"where XDG says", false, 1000, map[string]string{"HOME": "/home/u", "XDG_CACHE_HOME": "/c"}, "/c/pbsfs/metadata"},
		{"relative XDG is none", false, 1000, map[string]string{"HOME": "/home/u", "XDG_CACHE_HOME": "c"}, "/home/u/.cache/pbsfs/metadata"},
		{"nowhere", false, 1000, nil, ""},
		{"root's", false, 0, map[string]string{"HOME": "/root"}, "/var/cache/pbsfs/metadata"},
		{"root's where XDG says", false, 0, map[string]string{"XDG_CACHE_HOME": "/c"}, "/c/pbsfs/metadata"},
		{"not wanted", true, 0, nil, ""},
	} {
		o := diskCacheOptions{off: c.off}
		if got := o.dir(func(name string) string { return c.vars[name] }, c.uid); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
