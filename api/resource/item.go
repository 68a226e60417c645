package resource

import (
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// typeResource is the form of an item that carries its name apart.
const typeResource = fsm.TypePrefix + "envoy.service.discovery.v3.Resource"

// item is one entry of a change set, taken apart.
type item struct {
	path    string // of the entry
	body    string // of the message in it
	typeURL string
	value   map[string]any // the message, without @type

	name     string // "" to take the message's own
	namePath string
	aliases  []string
	ttl      time.Duration
	// routeConfig owns a virtual host that is given without the Resource
	// form.
	routeConfig string
}

// item takes an entry apart, nil when it cannot be.
func (ps *problems) item(path string, value map[string]any) *item {
	typeURL, typed := value["@type"].(string)
	if _, ok := value["@type"]; ok && !typed {
		ps.add(join(path, "@type"), wire.CodeUnknownType, "a type URL is wanted, not %s", kindOf(value["@type"]))
		return nil
	}
	_, holds := value["resource"].(map[string]any)
	if typeURL == typeResource || !typed && holds {
		return ps.wrapped(path, value)
	}
	if !typed {
		ps.add(join(path, "@type"), wire.CodeUnknownType, "it is missing")
		return nil
	}
	it := &item{path: path, body: path, typeURL: typeURL, value: value, namePath: join(path, "name")}
	delete(value, "@type")
	if typeURL == fsm.TypeVirtualHost {
		name, ok := value["route_config"].(string)
		if !ok || name == "" {
			ps.add(join(path, "route_config"), wire.CodeInvalidResource,
				"a virtual host names the route configuration that it belongs to, here or by the Resource form")
			return nil
		}
		it.routeConfig = name
		delete(value, "route_config")
	}
	return it
}

// wrapped takes the Resource form apart.
func (ps *problems) wrapped(path string, value map[string]any) *item {
	it := &item{path: path, body: join(path, "resource"), namePath: join(path, "name")}
	before := len(ps.list)
	for key, v := range value {
		ok := true
		switch key {
		case "@type":
		case "name":
			it.name, ok = v.(string)
		case "aliases":
			it.aliases, ok = texts(v)
		case "ttl":
			it.ttl, ok = ttlOf(v)
		case "resource":
			it.value, ok = v.(map[string]any)
		default:
			ps.add(join(path, key), wire.CodeUnknownField, "the Resource form has name, aliases, ttl and resource")
		}
		if !ok {
			ps.add(join(path, key), wire.CodeInvalidResource, "not what is wanted: %s", kindOf(v))
		}
	}
	if it.value == nil {
		if len(ps.list) == before {
			ps.add(it.body, wire.CodeInvalidResource, "it is missing")
		}
		return nil
	}
	typeURL, ok := it.value["@type"].(string)
	if !ok {
		ps.add(join(it.body, "@type"), wire.CodeUnknownType, "it is missing")
	}
	if len(ps.list) > before {
		return nil
	}
	it.typeURL = typeURL
	delete(it.value, "@type")
	return it
}

func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// nameFields are what types call the name that proxies subscribe to, where it
// is not "name".
var nameFields = map[string]protoreflect.Name{fsm.TypeEndpoints: "cluster_name"}

// complete takes the name from the message where the item does not give one.
func (it *item) complete(m protoreflect.Message, ps *problems) {
	field, ok := nameFields[it.typeURL]
	if !ok {
		field = "name"
	}
	own := ""
	if f := m.Descriptor().Fields().ByName(field); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		own = m.Get(f).String()
	}
	switch {
	case it.routeConfig != "":
		it.name = it.routeConfig + "/" + own
		it.aliases = domainAliases(it.routeConfig, m)
	case it.name == "":
		it.name = own
	case it.typeURL == fsm.TypeVirtualHost:
		it.virtualHostForm(m, ps)
	case own != "" && own != it.name:
		ps.add(it.namePath, wire.CodeInvalidName, "it is %q, and the message's own name is %q", it.name, own)
	}
}

// virtualHostForm checks a virtual host in the Resource form: its name is
// "<route config>/<host>", and its aliases default to its domains.
func (it *item) virtualHostForm(m protoreflect.Message, ps *problems) {
	config, _, ok := strings.Cut(it.name, "/")
	if !ok {
		ps.add(it.namePath, wire.CodeInvalidName, "a virtual host is named <route config>/<name>, not %q", it.name)
		return
	}
	if it.aliases == nil {
		it.aliases = domainAliases(config, m)
	}
}

// domainAliases are the names under which a proxy asks for a virtual host on
// demand: one for each of its domains.
func domainAliases(routeConfig string, m protoreflect.Message) []string {
	domains := m.Get(m.Descriptor().Fields().ByName("domains")).List()
	out := make([]string, domains.Len())
	for i := range out {
		out[i] = routeConfig + "/" + domains.Get(i).String()
	}
	return out
}
