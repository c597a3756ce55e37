// The collector; its command line is in internal/cli.
package main

import (
	"os"

	"rawstone/collector/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
