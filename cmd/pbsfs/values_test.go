package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// Values of flags that can be read are shown as they would be written; all others are
// refused.
func TestFlagValues(t *testing.T) {
	for _, test := range []struct {
		name string
		make func() pflag.Value
		good map[string]string
		bad  []string
	}{
		{
			"time", func() pflag.Value { return new(dayDuration) },
			map[string]string{"30d": "30d", "2w": "2w", "14d": "2w", "12h": "12h", "48h": "2d"},
			[]string{"", "d", "0d", "-1d", "1.5d", "3", "3m", "1d ", "2d12h", "999999999999999999w", "99999999999999999999d"},
		},
		{
			"share", func() pflag.Value { return new(share) },
			map[string]string{"5%": "5%", "0.5%": "0.5%", "100%": "100%", "1e-3%": "0.001%"},
			[]string{"", "%", "5", "0%", "-5%", "100.1%", "NaN%", "Inf%", "five%"},
		},
		{
			"rate", func() pflag.Value { return new(byteRate) },
			map[string]string{"50MiB/s": "50MiB/s", "50M": "50MiB/s", "1000": "1000/s"},
			[]string{"", "/s", "0", "0/s", "-1MiB/s", "50MiB/h", "1MiB/s/s", "fast"},
		},
	} {
		for text, want := range test.good {
			v := test.make()
			if err := v.Set(text); err != nil || v.String() != want {
				t.Errorf("%s %q: got %q and %v, want %q", test.name, text, v.String(), err, want)
			}
		}
		for _, text := range test.bad {
			if v := test.make(); v.Set(text) == nil {
				t.Errorf("%s %q: got %q, want an error", test.name, text, v.String())
			}
		}
		if v := test.make(); v.String() != "" || v.Type() == "" {
			t.Errorf("%s: without a value: %q, %q", test.name, v.String(), v.Type())
		}
	}
	var d dayDuration
	if err := d.Set("3d"); err != nil || time.Duration(d) != 72*time.Hour {
		t.Errorf("3d is %s", time.Duration(d))
	}
}
