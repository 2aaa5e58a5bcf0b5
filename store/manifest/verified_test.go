package manifest

import "testing"

func TestVerifiedAt(t *testing.T) {
	const upid = "UPID:vm:00000F7A:000432C8:00000002:6B011596:verify:ds\\\\x2dbasic:root@pam:"
	for _, test := range []struct {
		name, state string
		want        int64 // 0: not known
	}{
		{"verified", `{"state":"ok","upid":"` + upid + `"}`, 0x6b011596},
		{"failed", `{"state":"failed","upid":"` + upid + `"}`, 0},
		{"no task", `{"state":"ok"}`, 0},
		{"null", `{"state":"ok","upid":null}`, 0},
		{"no number", `{"state":"ok","upid":"UPID:vm:00000F7A:000432C8:00000002:tomorrow:verify::root@pam:"}`, 0},
		{"too large", `{"state":"ok","upid":"UPID:vm:00000F7A:000432C8:00000002:FFFFFFFFF:verify::root@pam:"}`, 0},
		{"cut off", `{"state":"ok","upid":"UPID:vm:00000F7A:000432C8:00000002:6B011596"}`, 0},
		{"something else", `{"state":"ok","upid":"a:b:c:d:e:6B011596:f:g:h:"}`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := mustDecode(t, withUnprotected(`{"verify_state":`+test.state+`}`))
			at, ok := m.VerifiedAt()
			if ok != (test.want != 0) || ok && at.Unix() != test.want {
				t.Errorf("got %v, %v, want %d", at, ok, test.want)
			}
		})
	}
}
