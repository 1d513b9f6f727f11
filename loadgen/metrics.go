package loadgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ServerSide has a server's own measurements, if it is serve.
type ServerSide struct {
	Choices      int     `json:"choices"` // that ended
	PromptTokens int     `json:"prompt_tokens"`
	AnswerTokens int     `json:"answer_tokens"`
	FirstToken   float64 `json:"first_token_seconds"` // mean
	PerToken     float64 `json:"per_token_seconds"`   // mean, between two tokens

	firstSum, gapSum     float64
	firstCount, gapCount uint64
}

// maxMetrics limits the size of a server's metrics.
const maxMetrics = 16 << 20

// scrape reads the sums of a model since its server's start.
func (c *Client) scrape(ctx context.Context, name string) (*ServerSide, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.root()+"/metrics", nil)
	if err != nil {
		return nil, err
	}

	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics: %s", res.Status)
	}

	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(res.Body, maxMetrics))
	if err != nil {
		return nil, fmt.Errorf("/metrics: %w", err)
	}
	if families["serve_answer_tokens_total"] == nil {
		return nil, errors.New("/metrics: not from serve")
	}

	count := func(metric string) (n int) {
		for _, m := range of(families[metric], name) {
			n += int(m.GetCounter().GetValue())
		}
		return n
	}

	s := &ServerSide{
		Choices:      count("serve_choices_total"),
		PromptTokens: count("serve_prompt_tokens_total"),
		AnswerTokens: count("serve_answer_tokens_total"),
	}
	for _, m := range of(families["serve_time_to_first_token_seconds"], name) {
		s.firstSum = m.GetHistogram().GetSampleSum()
		s.firstCount = m.GetHistogram().GetSampleCount()
	}

	for _, m := range of(families["serve_inter_token_seconds"], name) {
		s.gapSum = m.GetHistogram().GetSampleSum()
		s.gapCount = m.GetHistogram().GetSampleCount()
	}

	return s, nil
}

// of returns a family's metrics for a model.
func of(family *dto.MetricFamily, name string) (list []*dto.Metric) {
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "model" && l.GetValue() == name {
				list = append(list, m)
			}
		}
	}
	return list
}

// since returns the difference between two scrapes.
func (s *ServerSide) since(before *ServerSide) *ServerSide {
	d := &ServerSide{
		Choices:      s.Choices - before.Choices,
		PromptTokens: s.PromptTokens - before.PromptTokens,
		AnswerTokens: s.AnswerTokens - before.AnswerTokens,
	}
	if n := s.firstCount - before.firstCount; n > 0 {
		d.FirstToken = (s.firstSum - before.firstSum) / float64(n)
	}
	if n := s.gapCount - before.gapCount; n > 0 {
		d.PerToken = (s.gapSum - before.gapSum) / float64(n)
	}
	return d
}
