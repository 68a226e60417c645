package api_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/openapi"
	"github.com/org/envoy-control-plane/api/openapi/checker"
	"github.com/org/envoy-control-plane/api/wire"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	check, err := checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return check.Document()
}

// TestTableAndDocumentAgree: neither has a route, a query parameter or an
// open door that the other lacks.
func TestTableAndDocumentAgree(t *testing.T) {
	var table, doc []string
	for _, r := range api.Routes() {
		query := slices.Sorted(slices.Values(r.Query))
		table = append(table, row(r.Method, r.Pattern, r.Operation, query, r.Permission == api.PermNone))
	}
	for path, item := range document(t).Paths.Map() {
		for method, op := range item.Operations() {
			var query []string
			for _, p := range append(item.Parameters, op.Parameters...) {
				if p.Value.In == openapi3.ParameterInQuery {
					query = append(query, p.Value.Name)
				}
			}
			slices.Sort(query)
			doc = append(doc, row(method, path, op.OperationID, query, op.Security != nil && len(*op.Security) == 0))
		}
	}
	slices.Sort(table)
	slices.Sort(doc)
	if !slices.Equal(table, doc) {
		t.Errorf("table:\n%s\n\ndocument:\n%s", strings.Join(table, "\n"), strings.Join(doc, "\n"))
	}
}

func row(method, path, operation string, query []string, open bool) string {
	return strings.Join([]string{method, path, operation, strings.Join(query, "+"), strconv.FormatBool(open)}, " ")
}

// shapes are the wire types and the schemas that describe them.
func shapes() map[string]any {
	return map[string]any{
		"Problem": wire.Problem{}, "FieldError": wire.FieldError{}, "Health": wire.Health{}, "Ready": wire.Ready{},
		"Part": wire.Part{}, "Version": wire.Version{}, "Tenant": wire.Tenant{}, "TenantList": wire.List[wire.Tenant]{},
		"TenantPut": wire.TenantPut{}, "TenantWritten": wire.TenantWritten{}, "Fleet": wire.Fleet{},
		"FleetList": wire.List[wire.Fleet]{}, "FleetSettings": wire.FleetSettings{}, "FleetPut": wire.FleetPut{},
		"FleetWritten": wire.FleetWritten{}, "Deleted": wire.Deleted{}, "ChangeSet": wire.ChangeSet{},
		"ResourceKey": wire.ResourceKey{}, "Rollback": wire.Rollback{}, "Changed": wire.Changed{},
		"Affected": wire.Affected{}, "Change": wire.Change{}, "Revision": wire.Revision{},
		"RevisionList": wire.List[wire.Revision]{}, "Diff": wire.Diff{}, "Resource": wire.Resource{},
		"ResourceList": wire.List[wire.Resource]{}, "Endpoints": wire.Endpoints{},
		"EndpointsList": wire.List[wire.Endpoints]{}, "EndpointsWritten": wire.EndpointsWritten{},
		"Secret": wire.Secret{}, "SecretList": wire.List[wire.Secret]{}, "SecretWritten": wire.SecretWritten{},
		"Certificate": wire.Certificate{},
		"Proxy":       wire.Proxy{}, "ProxyList": wire.List[wire.Proxy]{}, "Locality": wire.Locality{},
		"Stream": wire.Stream{}, "TypeStatus": wire.TypeStatus{}, "Rejected": wire.Rejected{},
		"FleetStatus": wire.FleetStatus{}, "ProxyCounts": wire.ProxyCounts{}, "Rejection": wire.Rejection{},
		"PendingProxy": wire.PendingProxy{}, "MissingNode": wire.MissingNode{}, "History": wire.History{},
		"Event": wire.Event{}, "EventPosition": wire.EventPosition{}, "Cluster": wire.Cluster{}, "Node": wire.Node{}, "ArchiveStatus": wire.ArchiveStatus{},
		"Archive": wire.Archive{}, "ArchiveOutbox": wire.ArchiveOutbox{}, "ArchiveMonth": wire.ArchiveMonth{},
		"ArchiveDatabase": wire.ArchiveDatabase{}, "ArchiveTable": wire.ArchiveTable{}, "ArchivePartition": wire.ArchivePartition{},
		"BackupStatus": wire.BackupStatus{}, "StoredBackup": wire.StoredBackup{},
		"LeaderTransfer": wire.LeaderTransfer{}, "LeaderTransferred": wire.LeaderTransferred{},
		"ReadOnly": wire.ReadOnly{}, "Finalized": wire.Finalized{}, "ReadOnlySet": wire.ReadOnlySet{}, "NodeRemoved": wire.NodeRemoved{}, "NodeDraining": wire.NodeDraining{}, "NodeVoting": wire.NodeVoting{}, "ProxyConfig": wire.ProxyConfig{}, "StreamConfig": wire.StreamConfig{},
		"TypeConfig": wire.TypeConfig{}, "ResourceConfig": wire.ResourceConfig{}, "Retried": wire.Retried{},
		"Restored":     wire.Restored{},
		"ChangeReport": wire.Report[wire.ReportedChange]{}, "ReportedChange": wire.ReportedChange{},
		"ConvergenceReport": wire.Report[wire.ReportedConvergence]{}, "ReportedConvergence": wire.ReportedConvergence{},
		"RejectionReport": wire.Report[wire.ReportedRejections]{}, "ReportedRejections": wire.ReportedRejections{},
		"ProxyReport": wire.Report[wire.ReportedProxies]{}, "ReportedProxies": wire.ReportedProxies{},
		"AvailabilityReport": wire.Report[wire.ReportedAvailability]{}, "ReportedAvailability": wire.ReportedAvailability{},
		"MetricReport": wire.Report[wire.ReportedMetric]{}, "ReportedMetric": wire.ReportedMetric{},
		"SlowProxy": wire.SlowProxy{},
	}
}

// TestSchemasAndTypesAgree: same fields, and what the document requires is
// never left out.
func TestSchemasAndTypesAgree(t *testing.T) {
	types := shapes()
	for name, ref := range document(t).Components.Schemas {
		value, known := types[name]
		if !known {
			if ref.Value.AdditionalProperties.Has != nil && !*ref.Value.AdditionalProperties.Has {
				t.Errorf("schema %s has no type in package wire", name)
			}
			continue
		}
		delete(types, name)
		has, required := fields(reflect.TypeOf(value))
		properties := slices.Sorted(maps.Keys(ref.Value.Properties))
		if !slices.Equal(has, properties) {
			t.Errorf("%s: the type has %v, the schema %v", name, has, properties)
		}
		want := slices.Sorted(slices.Values(ref.Value.Required))
		// request_id is left out of problems that are not answers.
		if name != "Problem" && !slices.Equal(required, want) {
			t.Errorf("%s: the type always has %v, the schema requires %v", name, required, want)
		}
	}
	for name := range types {
		t.Errorf("type %s has no schema", name)
	}
}

// fields lists the JSON names of a struct, and those that are always there.
func fields(t reflect.Type) (all, always []string) {
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		all = append(all, name)
		if options == "" {
			always = append(always, name)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}

// constants returns the codes of package wire by their Go names.
func constants(t *testing.T) map[string]wire.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "wire/code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]wire.Code{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[spec.Names[0].Name] = wire.Code(value)
		}
		return true
	})
	return codes
}

// TestCodes: each is in the document, has a status of its own choice, and is
// the subject of a test in this package.
func TestCodes(t *testing.T) {
	var listed []string
	for _, v := range document(t).Components.Schemas["Code"].Value.Enum {
		listed = append(listed, v.(string))
	}
	tests := sources(t)
	var codes []string
	for name, code := range constants(t) {
		codes = append(codes, string(code))
		if code != wire.CodeInternal && code.Status() == wire.CodeInternal.Status() {
			t.Errorf("%s has no status", code)
		}
		if !regexp.MustCompile(`wire\.` + name + `\b`).MatchString(tests) {
			t.Errorf("no test demands %s", name)
		}
	}
	slices.Sort(codes)
	slices.Sort(listed)
	if !slices.Equal(codes, listed) {
		t.Errorf("package wire has\n%v, the document\n%v", codes, listed)
	}
}

func sources(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("*_test.go")
	if err != nil || len(names) == 0 {
		t.Fatal("no tests found", err)
	}
	var all strings.Builder
	for _, name := range names {
		if name == "fakes_test.go" {
			continue // says codes, demands none
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}

// TestDocumentIsServedExactly: what clients get is the document in the
// repository.
func TestDocumentIsServedExactly(t *testing.T) {
	want, err := openapi.JSON()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	got := r.get("/api/v1/openapi.json").is(200)
	if string(got.raw) != string(want) || !json.Valid(got.raw) {
		t.Errorf("served document differs from the source: %d and %d bytes", len(got.raw), len(want))
	}
}
