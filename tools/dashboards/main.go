// Command dashboards says what Grafana's own schema refuses of the dashboards named: unknown
// fields, other types, missing parts. One line a finding; exit code 1 if there is any.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	// What panels and queries of Prometheus may hold.
	plugins.RegisterDefaultPlugins()
	code := 0
	for _, name := range os.Args[1:] {
		for _, err := range check(name) {
			// The library also returns lists of errors that are empty.
			if err != nil && err.Error() != "" {
				fmt.Printf("%s: %v\n", name, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

func check(name string) []error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return []error{err}
	}
	var read dashboard.Dashboard
	return []error{read.UnmarshalJSONStrict(raw), read.Validate()}
}
