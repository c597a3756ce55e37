// Firmware-sim plays a car and its attestation ECU on a CAN bus.
package main

import (
	"os"

	"rawstone/firmware-sim/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
