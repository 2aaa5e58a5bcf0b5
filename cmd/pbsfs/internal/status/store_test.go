package status

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestStatusOfWhatIsNotMounted(t *testing.T) {
	s := storetest.New(t)
	host := storetest.Host(t, "datastore: tank\n\tpath "+s.Dir+"\n\tmaintenance-mode type=offline,message=rebuilding\n")
	if _, err := Targets(host, []string{"none"}, nil); err == nil {
		t.Error("there is no datastore none")
	}
	targets, err := Targets(host, []string{"tank"}, nil)
	if err != nil || len(targets) != 1 {
		t.Fatalf("%+v, %v", targets, err)
	}
	all, err := Of(t.Context(), host, targets, nil)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	got := all[0]
	if got.Datastore != "tank" || got.Path != s.Dir || got.Mode == nil || *got.Mode != "offline" || got.Message != "rebuilding" {
		t.Errorf("got %+v", got)
	}
	// Programs iterate over lists that have nothing in them.
	text, err := json.Marshal(got)
	if err != nil || !strings.HasSuffix(string(text), `"mounts":[],"processes":[],"handles":[],"locked_snapshots":[],"problems":[]}`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestWithoutANameAllThatAreConfigured(t *testing.T) {
	one, two := storetest.New(t), storetest.New(t)
	host := storetest.Host(t, "datastore: one\n\tpath "+one.Dir+"\n\ndatastore: two\n\tpath "+two.Dir+"\n")
	targets, err := Targets(host, nil, nil)
	if err != nil || len(targets) < 2 || targets[0].Name != "one" || targets[1].Name != "two" {
		t.Errorf("%+v, %v, want one and two", targets, err) // others on this host may be mounted
	}
}
