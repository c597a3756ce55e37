package daemon

import (
	"path/filepath"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/registry"
)

// InitCA makes the development authorities in dir, as `collector ca init` does, with server.pem and server.key for an HTTPS server that
// vehicles reach by one of the hosts.
func InitCA(dir string, hosts []string, now time.Time) error {
	if err := ca.Init(dir, now); err != nil {
		return err
	}
	return ca.IssueServer(dir, hosts, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), now)
}

// CertifyNode makes the key and certificate of a process with some roles, as `collector ca node` does.
func CertifyNode(dir, name string, roles, hosts []string, out string, now time.Time) error {
	return ca.IssueNode(dir, name, roles, hosts, out, now)
}

// CertifyECU writes a certificate for the ECU whose identity a file holds, as `collector ca ecu` does.
func CertifyECU(dir, identity, out string, now time.Time) error {
	id, err := registry.ReadIdentity(identity)
	if err != nil {
		return err
	}
	text, err := ca.IssueECU(dir, id, now)
	if err != nil {
		return err
	}
	return ca.Write(out, text)
}
