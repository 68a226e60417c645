package wire

import "time"

// Secret is what may be known of a secret: never its material.
type Secret struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Kind is tls_certificate, validation_context, session_ticket_keys or
	// generic_secret.
	Kind    string    `json:"kind"`
	Version string    `json:"version"`
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	// KeyID names the key that it is encrypted with.
	KeyID        string        `json:"key_id"`
	Certificates []Certificate `json:"certificates"`
}

// Certificate describes one of a secret's.
type Certificate struct {
	Subject  string   `json:"subject"`
	Issuer   string   `json:"issuer"`
	DNSNames []string `json:"dns_names,omitempty"`
	// Serial and Fingerprint (SHA-256) are hexadecimal.
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
}

// SecretWritten answers a PUT of a secret. 201: it is new. 200: it replaced
// another, or nothing differs.
type SecretWritten struct {
	Name      string       `json:"name"`
	Tenant    string       `json:"tenant"`
	Index     uint64       `json:"index"`
	Unchanged bool         `json:"unchanged,omitempty"`
	Warnings  []FieldError `json:"warnings,omitempty"`
}
