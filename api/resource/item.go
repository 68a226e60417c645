package resource

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

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
func (d *Decoder) item(path string, value map[string]any, ps *problems) *item {
	_, typed := value[keyType]
	if _, holds := value["resource"].(map[string]any); !typed && holds {
		return d.wrapped(path, value, ps)
	}
	typeURL, ok := d.typeOf(path, value, ps)
	if !ok {
		return nil
	}
	if typeURL == typeResource {
		return d.wrapped(path, value, ps)
	}
	it := &item{path: path, body: path, typeURL: typeURL, value: value, namePath: join(path, "name")}
	if typeURL == fsm.TypeVirtualHost {
		it.routeConfig, ok = value["route_config"].(string)
		if !ok || it.routeConfig == "" {
			ps.add(join(path, "route_config"), wire.CodeInvalidResource,
				"a virtual host names the route configuration that it belongs to, here or by the Resource form")
		}
		delete(value, "route_config")
	}
	return it
}

// typeOf takes the type of a resource, in full, out of its message.
func (d *Decoder) typeOf(path string, value map[string]any, ps *problems) (string, bool) {
	given, there := value[keyType]
	url, ok := given.(string)
	switch {
	case !there:
		ps.add(join(path, keyType), wire.CodeUnknownType, "it is missing")
		return "", false
	case !ok:
		ps.add(join(path, keyType), wire.CodeUnknownType, "a type URL is wanted, not %s", kindOf(given))
		return "", false
	}
	full, err := d.types.resource(url)
	if err != nil {
		ps.add(join(path, keyType), wire.CodeUnknownType, "%v", err)
		return "", false
	}
	delete(value, keyType)
	return full, true
}

// wrapped takes the Resource form apart.
func (d *Decoder) wrapped(path string, value map[string]any, ps *problems) *item {
	it := &item{path: path, body: join(path, "resource"), namePath: join(path, "name")}
	for _, key := range sortedKeys(value) {
		v, ok := value[key], true
		if v == nil {
			continue
		}
		switch key {
		case keyType:
		case "name":
			it.name, ok = v.(string)
		case "aliases":
			it.aliases, ok = texts(v)
		case "ttl":
			it.ttl, ok = ttlOf(v)
		case "resource":
			it.value, ok = v.(map[string]any)
		default:
			ps.add(member(path, key), wire.CodeUnknownField, "the Resource form has name, aliases, ttl and resource")
		}
		if !ok {
			ps.add(join(path, key), wire.CodeInvalidResource, "%s is wanted, not %s", wrapperKinds[key], shown(v))
		}
	}
	for i, alias := range it.aliases {
		ps.name(indexed(join(path, "aliases"), i), alias)
	}
	if it.value == nil {
		if !ps.has(it.body) {
			ps.add(it.body, wire.CodeInvalidResource, "it is missing")
		}
		return nil
	}
	var ok bool
	if it.typeURL, ok = d.typeOf(it.body, it.value, ps); !ok {
		return nil
	}
	return it
}

// wrapperKinds says what the Resource form takes.
var wrapperKinds = map[string]string{
	"name": "a string", "aliases": "an array of strings", "resource": "an object with @type",
	"ttl": `a duration like "5s", of a millisecond at least,`,
}

func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, ok
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// ttlOf reads a duration as protojson writes it. It is kept in milliseconds;
// one that would become none is refused.
func ttlOf(v any) (time.Duration, bool) {
	text, ok := v.(string)
	if !ok || len(text) > maxShownBytes {
		return 0, false
	}
	ttl := &durationpb.Duration{}
	if err := protojson.Unmarshal([]byte(shown(text)), ttl); err != nil {
		return 0, false
	}
	got := ttl.AsDuration()
	return got, got == 0 || got >= time.Millisecond
}

// complete takes the name from the message where the item does not give one.
func (it *item) complete(m protoreflect.Message, ps *problems) {
	own, named := "", false
	if f := m.Descriptor().Fields().ByName("name"); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		own, named = m.Get(f).String(), true
	}
	switch {
	case it.typeURL == fsm.TypeVirtualHost:
		it.virtualHost(own, m, ps)
	case it.name == "":
		it.name = own
		if it.body != it.path && !named {
			return // the Resource form must give it
		}
		it.namePath = join(it.body, "name")
	case named && own != it.name && !ps.has(join(it.body, "name")):
		// State of the world sends the message without its wrapper.
		ps.add(it.namePath, wire.CodeInvalidName, "it is %q, and the message's own name is %q", it.name, own)
	}
}

// virtualHost checks the name of a virtual host, "<route config>/<host>", and
// adds an alias for each of its domains, by which proxies ask for it on
// demand, unless the item has its own.
func (it *item) virtualHost(own string, m protoreflect.Message, ps *problems) {
	config := it.routeConfig
	if it.body == it.path {
		it.name = config + "/" + own
	} else {
		var ok bool
		config, ok = strings.CutSuffix(it.name, "/"+own)
		if (!ok || config == "" || own == "") && !ps.has(it.namePath) {
			ps.add(it.namePath, wire.CodeInvalidName, "a virtual host %q is named <route config>/%s, not %q", own, own, it.name)
		}
	}
	if it.aliases != nil {
		return
	}
	domains := m.Get(m.Descriptor().Fields().ByName("domains")).List()
	for i := range domains.Len() {
		it.aliases = append(it.aliases, config+"/"+domains.Get(i).String())
	}
}
