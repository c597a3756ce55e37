// Package cluster places a broker among the collector's processes: beside other brokers that hold the same queues, and before processes
// with other roles that work on them. Both are known by certificates of the collector's own authority, package peer.
//
// It starts no server and makes no queue; it says how a server is to be started, and who gets which rights at it.
package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/queue"
	"rawstone/collector/internal/role"
	"rawstone/pkg/config"
)

// Place is a configuration's section `cluster`: this broker's place among the collector's processes. It is alone when that is zero.
type Place struct {
	// Node is this broker's name among several, 1 to 32 characters of a-z, 0-9 and -, beginning with a letter. It stays the same for good.
	Node string `yaml:"node"`
	// Listen is the address for the other brokers, IP:port, and Routes are theirs; this one's may be among them. There are three or five
	// brokers in all, and the queues have three replicas.
	Listen string   `yaml:"listen"`
	Routes []string `yaml:"routes"`
	// Clients is the address for processes with the roles ingest and web, IP:port; none when empty. A broker that is alone may have it too.
	Clients string `yaml:"clients"`
}

// copies is how many brokers of a cluster hold each message. One of them may be away, and nothing that was acknowledged is lost.
const copies = 3

// IsZero reports whether there is no such section.
func (p Place) IsZero() bool {
	return p.Node == "" && p.Listen == "" && len(p.Routes) == 0 && p.Clients == ""
}

// Alone reports whether there are no other brokers.
func (p Place) Alone() bool { return p.Node == "" }

// Replicas is how many brokers are to hold each message.
func (p Place) Replicas() int {
	if p.Alone() {
		return 1
	}
	return copies
}

// Validate adds the faults of the section.
func (p Place) Validate(f *config.Faults) {
	if p.Clients != "" && !address(p.Clients) {
		f.Add("$.cluster.clients", "%q is not IP:port such as 10.0.0.1:4222", p.Clients)
	}
	if p.Node == "" && p.Listen == "" && len(p.Routes) == 0 {
		return
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`).MatchString(p.Node) {
		f.Add("$.cluster.node", "%q is not 1 to 32 characters of a-z, 0-9 and -, beginning with a letter", p.Node)
	}
	if !address(p.Listen) {
		f.Add("$.cluster.listen", "%q is not IP:port such as 10.0.0.1:6222", p.Listen)
	}
	for i, r := range p.Routes {
		if !address(r) {
			f.Add(fmt.Sprintf("$.cluster.routes[%d]", i), "%q is not IP:port such as 10.0.0.2:6222", r)
		}
	}
	if n := len(p.all()); n != 3 && n != 5 {
		f.Add("$.cluster.routes", "name %d brokers with this one: a cluster has 3 or 5", n)
	}
}

// address says whether text is IP:port with a port that others can know.
func address(text string) bool {
	a, err := netip.ParseAddrPort(text)
	return err == nil && a.Port() != 0
}

// all are the addresses of all brokers, this one's among them: the server takes their number for the cluster's size.
func (p Place) all() []string {
	all := append([]string{p.Listen}, p.Routes...)
	slices.Sort(all)
	return slices.Compact(all)
}

// Join sets a server's options for its place, after those of its MQTT listener; as may be nil for the zero Place.
func (p Place) Join(o *server.Options, as *peer.Identity) error {
	if p.IsZero() {
		return nil
	}
	if as == nil {
		return errors.New("the section cluster needs the section internal")
	}
	if p.Clients != "" {
		a, err := netip.ParseAddrPort(p.Clients)
		if err != nil {
			return fmt.Errorf("cluster.clients %q is not IP:port", p.Clients)
		}
		o.DontListen, o.Host, o.Port = false, a.Addr().String(), int(a.Port())
		if a.Port() == 0 {
			o.Port = server.RANDOM_PORT
		}
		o.TLSConfig, o.TLS, o.TLSVerify, o.TLSHandshakeFirst = as.Server(role.Ingest|role.Web), true, true, true
		o.TLSTimeout, o.AuthTimeout = o.MQTT.TLSTimeout, o.MQTT.AuthTimeout
	}
	if p.Alone() {
		return nil
	}
	if as.Name != p.Node {
		return fmt.Errorf("cluster.node is %s, and internal.certificate is of %s: issue one with `collector ca node --name %[1]s`", p.Node, as.Name)
	}
	a, err := netip.ParseAddrPort(p.Listen)
	if err != nil {
		return fmt.Errorf("cluster.listen %q is not IP:port", p.Listen)
	}
	o.ServerName = p.Node
	o.Cluster = server.ClusterOpts{
		Name: "rawstone", Host: a.Addr().String(), Port: int(a.Port()), NoAdvertise: true,
		TLSConfig: as.Both(role.Broker), TLSTimeout: o.MQTT.TLSTimeout, AuthTimeout: o.MQTT.AuthTimeout,
	}
	for _, r := range p.all() {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	o.MQTT.StreamReplicas = copies
	return nil
}

// Admit gives a connection of one of the collector's own processes, which TLS has verified, what its roles need, and refuses those that
// have no business with the queues.
func Admit(c server.ClientAuthentication) error {
	name, roles, err := peer.Of(c.GetTLSConnectionState())
	if err != nil {
		return err
	}
	publish, subscribe := queue.Rights(name, roles)
	if len(publish) == 0 || len(subscribe) == 0 { // which a server would take for all
		return fmt.Errorf("a process with the roles %s has no business with the queues", roles)
	}
	c.RegisterUser(&server.User{Username: name, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}})
	return nil
}
