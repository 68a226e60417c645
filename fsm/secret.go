package fsm

import (
	"bytes"
	"fmt"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (t *transition) putSecret(c *fsmpb.PutSecret) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	if c.Name == "" || len(c.Hash) == 0 || len(c.Sealed) == 0 || c.KeyId == "" {
		return nil, Refusal(CodeInvalid, "a secret needs a name, a hash and encrypted content with the name of its key")
	}
	old, exists := t.Secret(c.Tenant, c.Name)
	if exists && bytes.Equal(old.Hash, c.Hash) && old.KeyId == c.KeyId {
		return unchanged(), nil
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	row := &fsmpb.Secret{
		Tenant: c.Tenant, Name: c.Name, Sealed: c.Sealed, KeyId: c.KeyId, Hash: c.Hash,
		Version: Version(t.index, c.Hash), Index: t.index, At: t.stamp, By: t.by, Info: c.Info,
	}
	t.secrets, _, _ = t.secrets.Insert(key(c.Tenant, c.Name), row)
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Data: &fsmpb.Event_SecretPut{
		SecretPut: &fsmpb.SecretPut{Name: c.Name, Version: row.Version, KeyId: c.KeyId, Info: c.Info},
	}})
	return &fsmpb.Result{Created: !exists, Warnings: t.outOfDate(c.Info)}, nil
}

// outOfDate warns of certificates that do not hold at the time of the log.
func (t *transition) outOfDate(info *fsmpb.SecretInfo) []*fsmpb.FieldError {
	var out []*fsmpb.FieldError
	for i, c := range info.GetCertificates() {
		var when string
		switch {
		case c.NotAfter <= t.stamp:
			when = "has expired"
		case c.NotBefore > t.stamp:
			when = "is not valid yet"
		default:
			continue
		}
		if len(out) < maxWarnings {
			out = append(out, &fsmpb.FieldError{Path: info.Kind, Detail: fmt.Sprintf("certificate %d (%s) %s", i+1, c.Subject, when)})
		}
	}
	return out
}

func (t *transition) deleteSecret(c *fsmpb.DeleteSecret) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	if _, ok := t.Secret(c.Tenant, c.Name); !ok {
		return nil, Refusal(CodeSecretNotFound, "tenant %q has no secret %q", c.Tenant, c.Name)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.secrets, _, _ = t.secrets.Delete(key(c.Tenant, c.Name))
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Data: &fsmpb.Event_SecretDeleted{
		SecretDeleted: &fsmpb.SecretDeleted{Name: c.Name},
	}})
	return &fsmpb.Result{}, nil
}
