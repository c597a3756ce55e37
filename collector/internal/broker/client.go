package broker

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"

	"rawstone/pkg/wire"
)

// authenticator admits this process's own connection and MQTT clients that are named like a vehicle, each to that vehicle's topics.
type authenticator struct{}

// Check implements server.Authentication.
func (authenticator) Check(c server.ClientAuthentication) bool {
	if a := c.RemoteAddress(); a != nil && a.Network() == "pipe" {
		return true
	}
	s, ok := c.(fmt.Stringer)
	if !ok {
		return false
	}
	vehicle, ok := clientID(s.String())
	if !ok || wire.CheckVehicle(vehicle) != nil {
		return false
	}
	c.RegisterUser(&server.User{Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			wire.Subject(vehicle, wire.KindClaim), wire.Subject(vehicle, wire.KindReport),
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			wire.Subject(vehicle, wire.KindReceipt), strings.ReplaceAll(wire.PolicyTopic, "/", "."),
		}},
	}})
	return true
}

// clientID reads the MQTT client id out of a client's description, `ADDRESS - mid:NUMBER - "ID"`: the server gives it in no other
// way. The id is quoted in Go's syntax, so that no id can look like another's description.
func clientID(description string) (string, bool) {
	_, rest, ok := strings.Cut(description, " - mid:")
	if !ok {
		return "", false
	}
	_, quoted, ok := strings.Cut(rest, " - ")
	if !ok {
		return "", false
	}
	id, err := strconv.Unquote(quoted)
	return id, err == nil
}

// logger passes the server's warnings and errors on, without the names of vehicles that they quote, and drops its chatter.
type logger struct {
	slog *slog.Logger

	mu   sync.Mutex
	last string
}

var vehicleNames = regexp.MustCompile(`"[^"]*"|rawstone[./]v1[./][^ ./"]*`)

func (l *logger) problem(level slog.Level, msg, format string, args []any) {
	detail := vehicleNames.ReplaceAllString(fmt.Sprintf(format, args...), "...")
	l.mu.Lock()
	l.last = detail
	l.mu.Unlock()
	l.slog.Log(context.Background(), level, msg, "detail", detail)
}

func (l *logger) lastProblem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *logger) Warnf(format string, v ...any) {
	l.problem(slog.LevelWarn, "broker warning", format, v)
}

func (l *logger) Errorf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
}

// Fatalf is what the server calls where it cannot go on; Start sees that it did not become ready.
func (l *logger) Fatalf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
}

func (*logger) Noticef(string, ...any) {}
func (*logger) Debugf(string, ...any)  {}
func (*logger) Tracef(string, ...any)  {}
