package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/org/envoy-control-plane/cluster/backup"
	"github.com/org/envoy-control-plane/cmd/envoy-control-plane/keyring"
)

func (c *config) readSecret(getenv func(string) string) []error {
	c.jwtSecret = getenv("JWT_SECRET")
	if c.jwtSecretFile == "" {
		return nil
	}
	raw, err := os.ReadFile(c.jwtSecretFile)
	if err != nil {
		return []error{fmt.Errorf("--jwt-secret-file: %w", err)}
	}
	c.jwtSecret = strings.TrimSpace(string(raw))
	if c.jwtSecret == "" {
		return []error{fmt.Errorf("--jwt-secret-file: %s is empty", c.jwtSecretFile)}
	}
	return nil
}

func (c *config) readKeys() []error {
	if c.secretsKeyFile == "" {
		return nil
	}
	raw, err := os.ReadFile(c.secretsKeyFile)
	if err != nil {
		return []error{fmt.Errorf("--secrets-key-file: %w", err)}
	}
	defer clear(raw)
	if c.keys, err = keyring.Parse(raw); err != nil {
		return []error{fmt.Errorf("--secrets-key-file %s: %w", c.secretsKeyFile, err)}
	}
	return nil
}

// readBackups makes the target of backups of what --backup-to says.
func (c *config) readBackups() []error {
	if c.backupTo == "" {
		return nil
	}
	var err error
	if c.backupTarget, err = backup.ParseTarget(c.backupTo); err != nil {
		return []error{fmt.Errorf("--backup-to: %w", err)}
	}
	return nil
}

// readVote decides whether the node may vote.
func (c *config) readVote() []error {
	if c.vote == voteInitial {
		c.voter = slices.Contains(c.initialMembers, c.nodeID)
		if len(c.initialMembers) == 0 {
			return []error{errors.New("--voter: initial needs --initial-members")}
		}
		return nil
	}
	var err error
	if c.voter, err = strconv.ParseBool(c.vote); err != nil {
		return []error{fmt.Errorf("--voter: %q is none of true, false, initial", c.vote)}
	}
	return nil
}
