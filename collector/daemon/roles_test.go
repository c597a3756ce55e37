package daemon

import (
	"os"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/role"
)

// TestClusterConfigs: the example has a file for each role, and each process names only the secrets that it needs.
func TestClusterConfigs(t *testing.T) {
	for name, c := range map[string]struct {
		roles   role.Set
		secrets string
	}{
		"b1": {role.Broker, ""}, "b2": {role.Broker, ""}, "b3": {role.Broker, ""},
		"ingest": {role.Ingest, "receipt.key"}, "settle": {role.Settle, "log.key"}, "web": {role.Web, "vehicle-ca.key"},
	} {
		path := "../../configs/cluster/" + name + ".yaml"
		if _, err := LoadFor(path, c.roles); err != nil {
			t.Error(err)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("%s is enough for all roles", name)
		}
		text := string(readFile(t, path))
		for _, secret := range []string{"receipt.key", "log.key", "validator-", "vehicle-ca.key"} {
			if got, want := strings.Contains(text, secret), strings.Contains(c.secrets, secret); got != want {
				t.Errorf("%s names %s: %t", name, secret, got)
			}
		}
	}
}

// TestCombinations: what does not go together is refused by one sentence.
func TestCombinations(t *testing.T) {
	const (
		postgres = "records: {postgres: {url_file: records.url}}\n"
		internal = "internal: {ca: ca.pem, certificate: n.pem, key: n.key}\n"
		clients  = "cluster: {clients: \"127.0.0.1:4222\"}\n"
		several  = "cluster: {node: b1, listen: \"127.0.0.1:6222\", routes: [\"127.0.0.1:6223\", \"127.0.0.1:6224\"]}\n"
		queues   = "queue: {servers: [\"127.0.0.1:4222\"]}\n"
	)
	w := &world{dir: t.TempDir()}
	for i, c := range []struct{ roles, more, want string }{
		{"broker,ingest,settle,web", validatorPart + internal, ""},
		{"broker,ingest,settle,web", validatorPart + clients + internal, ""},
		{"broker,ingest,web", postgres + several + internal, ""},
		{"broker", postgres + several + internal, ""},
		{"ingest,web", postgres + queues + internal, ""},
		{"settle", postgres + validatorPart + internal, ""},
		{"settle", postgres + internal, "validators: must say where"},
		{"settle", postgres + validatorPart, "internal.ca: must be set"},
		{"settle", postgres + internal + strings.Replace(validatorPart, "https", "http", 1), "validators[0].url"},
		{"settle", postgres + internal + strings.Replace(validatorPart, "demo/operator", "\"\"", 1), "validators[0].name"},
		{"ingest,web", postgres + queues + internal + validatorPart, "validators: is for a process with the role settle"},
		{"validator", postgres + internal + validatorPart, "a validator is no part of a collector"},
		{"broker", "", "records: a process with the roles broker shares its records"},
		{"settle", validatorPart + internal, "have them in PostgreSQL"},
		{"broker,settle", postgres + several + internal, "does not go with the role settle"},
		{"ingest", postgres + queues + clients + internal, "cluster: is for a process with the role broker"},
		{"settle", postgres + "bridge: {url: \"ssl://a:1\", ca: a, certificate: a, key: a}\n", "bridge: is for a process with the role broker"},
		{"ingest", postgres, "queue.servers: must name the brokers"},
		{"web", postgres, "queue.servers: must name the brokers"},
		{"broker,web", postgres + queues + internal, "queue: is for a process without the role broker"},
		{"broker", postgres + several, "internal.key: must be set"},
		{"ingest", postgres + queues, "internal.ca: must be set"},
		{"web", postgres + internal, "internal: is for a process with cluster, queue or validators"},
		{"ingest", postgres + internal + "queue: {servers: [\"broker:4222\"]}\n", "queue.servers[0]"},
		{"broker", postgres + internal + strings.Replace(several, "b1", "B1", 1), "cluster.node"},
		{"broker", postgres + internal + strings.Replace(several, ", \"127.0.0.1:6224\"", "", 1), "name 2 brokers with this one"},
		{"broker", postgres + internal + strings.Replace(several, ":6222", ":0", 1), "cluster.listen"},
		{"broker", postgres + internal + strings.Replace(several, "127.0.0.1:6223", "x", 1), "cluster.routes[0]"},
		{"broker", postgres + internal + strings.Replace(clients, "4222", "0", 1), "cluster.clients"},
	} {
		roles, err := role.Parse(strings.Split(c.roles, ","))
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, "collector.yaml", []byte(strings.TrimSuffix(goodConfig, validatorPart+internalPart)+c.more))
		_, err = LoadFor(w.path("collector.yaml"), roles)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("case %d: %v", i, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("case %d: %v, want %q", i, err, c.want)
		}
	}
}

// TestForeignCertificate: a process whose certificate is for other roles, or of another node, does not start.
func TestForeignCertificate(t *testing.T) {
	w := newWorld(t)
	for name, roles := range map[string][]string{"i1": {"ingest"}, "b2": {"broker", "ingest", "settle", "web"}} {
		if err := ca.IssueNode(w.path("ca"), name, roles, []string{"127.0.0.1"}, w.path("nodes"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	const more = "web: 127.0.0.1:0\ncluster: {clients: \"127.0.0.1:1\"}\ninternal: {ca: ca/internal-ca.pem, certificate: nodes/i1.pem, key: nodes/i1.key}\n"
	contains(t, refuses(t, w.load(t, "web: 127.0.0.1:0\n", more, internalPart, "")), "internal.certificate", "ingest", "collector ca node")
	cfg := w.load(t, "web: 127.0.0.1:0\n", strings.ReplaceAll(more, "i1", "b2"), internalPart, "")
	cfg.Cluster.Node, cfg.Cluster.Listen = "b1", "127.0.0.1:6222"
	contains(t, refuses(t, cfg), "cluster.node is b1, and internal.certificate is of b2")
	if _, err := os.Stat(w.path("state/queue")); err == nil {
		t.Error("a broker of another name made its queues")
	}
}
