package resource

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// binds returns the addresses that a listener occupies, "tcp/0.0.0.0:80".
func binds(m protoreflect.Message) []string {
	l, ok := m.Interface().(*listenerv3.Listener)
	old := l.GetDeprecatedV1().GetBindToPort() //nolint:staticcheck // Envoy still obeys it
	if !ok || off(l.GetBindToPort()) || off(old) {
		return nil
	}
	addresses := []*corev3.Address{l.GetAddress()}
	for _, a := range l.GetAdditionalAddresses() {
		addresses = append(addresses, a.GetAddress())
	}
	var out []string
	for _, a := range addresses {
		if bind := bindOf(a); bind != "" {
			out = append(out, bind)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func off(b *wrapperspb.BoolValue) bool { return b != nil && !b.GetValue() }

func bindOf(a *corev3.Address) string {
	if pipe := a.GetPipe().GetPath(); pipe != "" {
		return "unix/" + pipe
	}
	socket := a.GetSocketAddress()
	if socket.GetPortValue() == 0 { // none, or a free one
		return ""
	}
	transport := "tcp/"
	if socket.GetProtocol() == corev3.SocketAddress_UDP {
		transport = "udp/"
	}
	host := socket.GetAddress()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	bind := transport + net.JoinHostPort(host, strconv.FormatUint(uint64(socket.GetPortValue()), 10))
	if namespace := socket.GetNetworkNamespaceFilepath(); namespace != "" {
		bind += "@" + namespace
	}
	return bind
}
