package api

import (
	"net/http"

	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/api/view"
)

// operations returns all of them.
func (a *api) operations() []operation {
	get, put, post := http.MethodGet, http.MethodPut, http.MethodPost
	read, spend, give := []string{token.Read}, []string{token.Spend}, []string{token.Grant}
	return []operation{
		{method: get, path: "/v1/openapi.yaml", raw: a.writeDocument},
		{method: get, path: problem.Path + "{id}", raw: a.writeProblem},
		{method: get, path: "/v1/account", scopes: read, see: a.seeAccount},
		{method: put, path: "/v1/account/key", scopes: spend, do: a.setKey},
		{method: post, path: "/v1/account/activation", scopes: spend, do: a.activate},
		{method: get, path: "/v1/account/history", scopes: read, query: []string{"before", "limit"}, see: a.seeHistory},
		{method: get, path: "/v1/account/statement", scopes: read, query: []string{"since"}, raw: a.writeStatement},
		{method: get, path: "/v1/tasks", scopes: read, see: see(a, view.Tasks)},
		{method: post, path: "/v1/tasks/{id}/grants", scopes: give, do: a.grant},
		{method: post, path: "/v1/tasks/{id}/claims", scopes: spend, do: a.claim},
		{method: get, path: "/v1/boxes", scopes: read, see: see(a, view.Boxes)},
		{method: post, path: "/v1/boxes/{id}/openings", scopes: spend, do: a.open, resource: "/v1/openings/"},
		{method: get, path: "/v1/openings/{id}", scopes: read, see: a.seeOpening},
		{method: get, path: "/v1/catalogue", scopes: read, see: see(a, view.Catalogue)},
		{method: post, path: "/v1/redemptions", scopes: spend, do: a.redeem, resource: "/v1/redemptions/"},
		{method: get, path: "/v1/redemptions/{id}", scopes: read, see: a.seeRedemption},
		{method: get, path: "/v1/exchange", scopes: read, ask: a.exchange},
	}
}

// writeDocument shows the API's document (RFC 9512).
func (a *api) writeDocument(w http.ResponseWriter, _ *http.Request, _ *gate.Call) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := w.Write(document)
	return a.gone(err)
}

// writeProblem explains a kind of problem.
func (a *api) writeProblem(w http.ResponseWriter, _ *http.Request, c *gate.Call) error {
	for _, k := range problem.Kinds() {
		if k.Name() == c.ID {
			w.Header().Set("Content-Type", "application/json")
			_, err := w.Write(k.Explain())
			return a.gone(err)
		}
	}
	return problem.New(problem.NotFound(), "There is no such kind of problem.")
}

// gone takes note of a reader who went away: there is nobody left to tell.
func (a *api) gone(err error) error {
	if err != nil {
		a.cfg.Logger.Debug("reader of the accounts' API went away", "error", err)
	}
	return nil
}
