package api

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
)

// The version of PBS whose dialect is spoken.
const (
	dialectVersion = "4.1"
	dialectRelease = "1"
)

// aboutServer are the operations on this server itself.
func aboutServer() []*operation {
	return []*operation{
		answering("GET", "version", token.Audit, "tell the version", tellVersion),
		answering("POST", "access/ticket", 0, "refused: only tokens are known here", refuseTicket),
	}
}

// Version is the version of the dialect, and ours.
type Version struct {
	Version string `json:"version"`
	Release string `json:"release"`
	RepoID  string `json:"repoid"`
	Pbsfs   string `json:"pbsfs"`
}

func tellVersion(c *call, _ nothing) (Version, error) {
	return Version{Version: dialectVersion, Release: dialectRelease, RepoID: "pbsfs", Pbsfs: c.Version}, nil
}

// errTokensOnly is the answer to a login with a password.
var errTokensOnly = errors.New("there are no passwords and no tickets here, only API tokens: 'pbsfs serve token add NAME --role ROLE' makes one; send it as Authorization: PBSAPIToken=USER@REALM!NAME:SECRET")

// ticketIn are the parameters that a client sends to log in with a password.
type ticketIn struct {
	User     string `param:"username,optional" doc:"not looked at"`
	Password string `param:"password,optional" doc:"not looked at"`
}

func refuseTicket(*call, ticketIn) (any, error) { return nil, errTokensOnly }

// aboutSessions are the operations with which the page logs in.
func aboutSessions() []*operation {
	return []*operation{
		answering("GET", "pbsfs/session", token.Audit, "tell who is logged in", showSession),
		answering("POST", "pbsfs/session", 0, "log in with a token, for a page", beginSession),
		answering("DELETE", "pbsfs/session", token.Audit, "log out", endSession),
	}
}

// Session is what a page knows of its session.
type Session struct {
	TokenID string `json:"tokenid"`
	Role    string `json:"role"`
	Changes bool   `json:"changes"` // whether modes may be changed
	Proof   string `json:"CSRFPreventionToken"`
}

func sessionOf(c access.Caller) Session {
	return Session{TokenID: c.Name, Role: c.Role.String(), Changes: c.MayChange, Proof: c.Proof}
}

func showSession(c *call, _ nothing) (Session, error) { return sessionOf(c.caller), nil }

// loginIn are the parameters of beginSession.
type loginIn struct {
	Token string `param:"token" doc:"USER@REALM!NAME:SECRET"`
}

func beginSession(c *call, in loginIn) (Session, error) {
	caller, err := c.Gate.Begin(c.w, c.r, strings.TrimSpace(in.Token))
	return sessionOf(caller), err
}

func endSession(c *call, _ nothing) (any, error) {
	c.Gate.End(c.w, c.r, c.caller)
	return nil, nil
}

// upid returns a task id in the form that PBS has for it.
func upid(c *call, began time.Time, kind, id string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host, _, _ = strings.Cut(host, ".")
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%08X:%s:%s:%s:", host, os.Getpid(), 0, 0, began.Unix(), kind, id, c.caller.Name)
}
