package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// healthCommand asks the node on this host, for images without curl.
func healthCommand() *cobra.Command {
	var port int
	var host, path string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the node on this host whether it is alive",
		Example: `  envoy-control-plane health
  envoy-control-plane health --path /ready --http-port 8081`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			url := "http://" + net.JoinHostPort(host, strconv.Itoa(port)) + path
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return usageError{err}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 1<<20)); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", url, resp.Status)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&port, "http-port", envPort("SERVER_PORT", 8080), "REST port of the node")
	cmd.Flags().StringVar(&host, "host", "127.0.0.1", "host of the node")
	cmd.Flags().StringVar(&path, "path", "/health", "/health or /ready")
	return cmd
}
