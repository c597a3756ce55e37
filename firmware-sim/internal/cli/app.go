package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rawstone/firmware-sim/internal/app"
	"rawstone/pkg/command"
)

func newApp() *cobra.Command {
	cmd := &cobra.Command{Use: "app", Short: "Play the maker's app, its backend and its authorization server against the accounts API"}
	with := func(c *cobra.Command, do func(*cobra.Command, *app.Config) error) *cobra.Command {
		c.Args = cobra.NoArgs
		c = command.WithConfig(c)
		c.RunE = func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.Load(command.ConfigPath(cmd))
			if err != nil {
				return err
			}
			return do(cmd, cfg)
		}
		return c
	}
	token := &cobra.Command{
		Use:     "token --config FILE [--account A] [--scope SCOPE,...]",
		Short:   "Print an access token for five minutes, of an account or, without one, of the backend",
		Example: `  curl -H "Authorization: Bearer $(firmware-sim app token --config app.yaml --account A)" …/v1/account`,
	}
	account := token.Flags().String("account", "", "the account; none for the maker's backend")
	scopes := token.Flags().StringSlice("scope", []string{app.ScopeRead}, "scopes, separated by commas: stones.read, stones.spend, stones.grant")
	cmd.AddCommand(
		with(&cobra.Command{Use: "init --config FILE", Short: "Make the authorization server's key, jwks.json for the collector, and the accounts' keys"},
			func(_ *cobra.Command, cfg *app.Config) error { return app.Init(cfg) }),
		with(&cobra.Command{Use: "play --config FILE", Short: "Live the owners' lives: activate, earn crystals, open mine boxes, redeem stones"},
			func(cmd *cobra.Command, cfg *app.Config) error {
				logger, err := command.Logger(cmd)
				if err != nil {
					return err
				}
				return app.Play(cmd.Context(), cfg, logger)
			}),
		with(token, func(cmd *cobra.Command, cfg *app.Config) error {
			text, err := app.Token(cfg, *account, *scopes, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		}),
	)
	return cmd
}
