package main

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
)

// endpointRow is what a table shows of one endpoint.
type endpointRow struct {
	address, health, weight, priority, locality string
}

// loadAssignment is the part of a ClusterLoadAssignment that tables show.
type loadAssignment struct {
	Endpoints []struct {
		Priority int `json:"priority"`
		Locality struct {
			Region  string `json:"region"`
			Zone    string `json:"zone"`
			SubZone string `json:"sub_zone"`
		} `json:"locality"`
		LbEndpoints []struct {
			Health   string          `json:"health_status"`
			Weight   json.RawMessage `json:"load_balancing_weight"`
			Endpoint struct {
				Address struct {
					Socket *struct {
						Address string          `json:"address"`
						Port    json.RawMessage `json:"port_value"`
						Name    string          `json:"named_port"`
					} `json:"socket_address"`
					Pipe *struct {
						Path string `json:"path"`
					} `json:"pipe"`
				} `json:"address"`
			} `json:"endpoint"`
		} `json:"lb_endpoints"`
	} `json:"endpoints"`
}

// addresses lists the endpoints of a ClusterLoadAssignment as the API prints
// it. What has another shape is left out.
func addresses(raw json.RawMessage) []endpointRow {
	var l loadAssignment
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil
	}
	var rows []endpointRow
	for _, group := range l.Endpoints {
		locality := strings.TrimRight(group.Locality.Region+"/"+group.Locality.Zone+"/"+group.Locality.SubZone, "/")
		for _, e := range group.LbEndpoints {
			row := endpointRow{
				address: "?", health: e.Health, weight: string(e.Weight),
				priority: strconv.Itoa(group.Priority), locality: locality,
			}
			at := e.Endpoint.Address
			switch {
			case at.Socket != nil:
				row.address = net.JoinHostPort(at.Socket.Address, string(at.Socket.Port)+at.Socket.Name)
			case at.Pipe != nil:
				row.address = at.Pipe.Path
			}
			rows = append(rows, row)
		}
	}
	return rows
}
