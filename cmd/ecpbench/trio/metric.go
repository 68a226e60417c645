package trio

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metric reads a metric without labels of a member.
func (c *Cluster) metric(ctx context.Context, i int, name string) (value float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.kind.metrics(c, i), http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics of %s: %w", c.id(i), err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics of %s: %w", c.id(i), err)
	}
	for _, m := range families[name].GetMetric() {
		// One of the two is there, the other one 0.
		return m.GetGauge().GetValue() + m.GetCounter().GetValue(), nil
	}
	return 0, fmt.Errorf("%s has no metric %s", c.id(i), name)
}
