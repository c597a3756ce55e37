package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/evidence"
	"rawstone/collector/internal/policy"
	"rawstone/collector/internal/store"
	"rawstone/pkg/claim"
	"rawstone/pkg/command"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func newRegistry() *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Hand out the registry of ECU keys"}
	export := &cobra.Command{
		Use:   "export --config FILE --out FILE",
		Short: "Write which ECU keys speak for which vehicles, as `collector claim verify` reads it",
		Args:  cobra.NoArgs,
	}
	out := export.Flags().String("out", "", "file to write, which must not exist; it tells whose keys they are (required)")
	export.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		_, program, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
		if err != nil {
			return err
		}
		records, err := cfg.Store(store.Audit)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := evidence.ExportRegistry(cmd.Context(), records, program, &b); err != nil {
			return err
		}
		return writeNew(*out, b.Bytes(), 0o600)
	}
	cmd.AddCommand(command.WithConfig(command.Require(export, "out")))
	return cmd
}

func newClaim() *cobra.Command {
	cmd := &cobra.Command{Use: "claim", Short: "Hand out accepted claims, check claims from files alone, and say what they tell"}
	cmd.AddCommand(newClaimExport(), newClaimVerify(), newClaimExplain())
	return cmd
}

func newClaimExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "export --config FILE --out DIR",
		Short:   "Write each accepted claim to a file named by its identifier, as `collector claim verify` reads it",
		Example: "  collector claim export --config collector.yaml --out claims",
		Args:    cobra.NoArgs,
	}
	out := cmd.Flags().String("out", "", "directory to write; claims that are there already are left (required)")
	vehicle := cmd.Flags().String("vehicle", "", "a vehicle's claims only; all by default")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		records, err := cfg.Store(store.Audit)
		if err != nil {
			return err
		}
		n, err := evidence.ExportClaims(cmd.Context(), records, *out, *vehicle)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d claims in %s\n", n, *out)
		return err
	}
	return command.WithConfig(command.Require(cmd, "out"))
}

func readClaim(path string) (*wire.Claim, error) {
	b, err := terms.ReadDocument(path)
	if err != nil {
		return nil, err
	}
	m, err := wire.DecodeClaim(b)
	if err != nil {
		return nil, fmt.Errorf("%w; give a whole file that `collector claim export` wrote", err)
	}
	return m, nil
}

func newClaimVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --root FILE --program FILE --keys DIR --policy FILE... --registry FILE [--ca FILE] CLAIM...",
		Short: "Check claims against signed policies, the verifying key and a registry; one line each",
		Example: "  collector claim verify --root program/root.pub --program program/program.cose --keys program/claim \\\n" +
			"    --policy program/policies/1.cose --registry registry.json *.claim",
		Args: cobra.MinimumNArgs(1),
	}
	open := withProgram(cmd)
	keys := cmd.Flags().String("keys", "", "directory with the verifying key and its lock file (required)")
	policies := cmd.Flags().StringArray("policy", nil, "a signed policy; give every one that is or was in force (required)")
	registry := cmd.Flags().String("registry", "", "what \"collector registry export\" wrote (required)")
	authority := cmd.Flags().String("ca", "", "authorities of ECU certificates, in PEM; checks that one certified each claim's key")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		checker, err := newChecker(p, *keys, *policies, *registry, *authority)
		if err != nil {
			return err
		}
		// A claim that cannot be read is one that does not hold; the others are checked all the same.
		errs := make([]error, len(args))
		var claims []*wire.Claim
		var at []int
		for i, path := range args {
			m, err := readClaim(path)
			if err != nil {
				errs[i] = err
				continue
			}
			claims, at = append(claims, m), append(at, i)
		}
		found, failed := checker.Check(claims)
		lines := make([]string, len(args))
		for j, i := range at {
			lines[i], errs[i] = line(found[j]), failed[j]
		}
		bad := 0
		for i, path := range args {
			if errs[i] != nil {
				bad++
				lines[i] = "does not hold: " + errs[i].Error()
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", path, lines[i])
		}
		if bad > 0 {
			return fmt.Errorf("%d of %d claims do not hold", bad, len(args))
		}
		return nil
	}
	return command.Require(cmd, "keys", "policy", "registry")
}

func newChecker(p *policy.Program, keys string, policies []string, registry, authority string) (*evidence.Checker, error) {
	docs, err := p.Verify(policies)
	if err != nil {
		return nil, err
	}
	lock, err := claim.ReadLock(keys)
	if err != nil {
		return nil, fmt.Errorf("%w; give the directory that `collector init` or `collector ceremony seal` wrote", err)
	}
	if p.Environment == wire.Production && lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot use keys in %s: they are from a development setup, and the program is for production", keys)
	}
	v, err := claim.OpenVerifier(keys, lock)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(registry)
	if err != nil {
		return nil, fmt.Errorf("cannot read registry: %w; `collector registry export` writes it", err)
	}
	defer f.Close()
	r, err := evidence.ReadRegistry(f)
	if err != nil {
		return nil, err
	}
	cfg := evidence.Config{
		Program: p.ID, Policies: docs, Registry: r, Verifiers: map[wire.Hash]evidence.Verifier{lock.VerifyingKey: v},
	}
	if authority != "" {
		if cfg.ECUCA, err = ca.Pool(authority); err != nil {
			return nil, err
		}
		cfg.At = time.Now()
	}
	return evidence.New(cfg)
}

// line says what a claim proves.
func line(f evidence.Finding) string {
	var proven []string
	for _, p := range f.Proven {
		text := fmt.Sprintf("%s by policy %d, tier %d", p.Policy.Kind, p.Policy.Serial, p.Tier)
		if p.Policy.Kind == terms.KindMileage {
			text += fmt.Sprintf(", %d km", p.Km)
		}
		proven = append(proven, text)
	}
	return fmt.Sprintf("holds: vehicle %s, snapshots %d to %d, program days %d to %d: %s",
		f.Vehicle, f.From.Seq, f.To.Seq, f.From.Day, f.To.Day, strings.Join(proven, "; "))
}

func newClaimExplain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [--policy FILE]... CLAIM",
		Short: "Say in plain words what a claim tells and what it does not reveal; nothing is checked",
		Args:  cobra.ExactArgs(1),
	}
	policies := cmd.Flags().StringArray("policy", nil, "a policy, signed or not, to put the claim's tiers into words")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := readClaim(args[0])
		if err != nil {
			return fmt.Errorf("cannot explain claim %s: %w", args[0], err)
		}
		var docs []*terms.Policy
		for _, path := range *policies {
			d, err := policy.Read(path)
			if err != nil {
				return err
			}
			docs = append(docs, d.Policy)
		}
		return evidence.Explain(cmd.OutOrStdout(), m, docs)
	}
	return cmd
}
