package openai

import (
	"encoding/json"
	"net/http"

	"serve/fault"
	"serve/server/wire"
)

// Types of OpenAI's errors.
const (
	invalidRequest = "invalid_request_error"
	serverError    = "server_error"
	rateLimit      = "rate_limit_error"
)

// failure is the form of a fault in OpenAI's API. Clients retry every 5xx, unless it is final.
type failure struct {
	status int
	kind   string // the envelope's type
	code   string // empty for null
	final  bool
}

// failures is the only table from kinds of faults to statuses, types and codes.
var failures = map[fault.Kind]failure{
	fault.Internal: {http.StatusInternalServerError, serverError, "internal_error", false},

	fault.Malformed:       {http.StatusBadRequest, invalidRequest, "", false},
	fault.MissingField:    {http.StatusBadRequest, invalidRequest, "missing_required_parameter", false},
	fault.UnknownField:    {http.StatusBadRequest, invalidRequest, "unknown_parameter", false},
	fault.WrongType:       {http.StatusBadRequest, invalidRequest, "invalid_type", false},
	fault.InvalidValue:    {http.StatusBadRequest, invalidRequest, "invalid_value", false},
	fault.IntegerTooSmall: {http.StatusBadRequest, invalidRequest, "integer_below_min_value", false},
	fault.IntegerTooLarge: {http.StatusBadRequest, invalidRequest, "integer_above_max_value", false},
	fault.DecimalTooSmall: {http.StatusBadRequest, invalidRequest, "decimal_below_min_value", false},
	fault.DecimalTooLarge: {http.StatusBadRequest, invalidRequest, "decimal_above_max_value", false},
	fault.ArrayEmpty:      {http.StatusBadRequest, invalidRequest, "empty_array", false},
	fault.ArrayTooLong:    {http.StatusBadRequest, invalidRequest, "array_above_max_length", false},
	fault.StringTooLong:   {http.StatusBadRequest, invalidRequest, "string_above_max_length", false},
	fault.Unsupported:     {http.StatusBadRequest, invalidRequest, "unsupported_parameter", false},
	fault.InvalidSchema:   {http.StatusBadRequest, invalidRequest, "invalid_json_schema", false},

	fault.ImageURL:         {http.StatusBadRequest, invalidRequest, "invalid_image_url", false},
	fault.ImageBase64:      {http.StatusBadRequest, invalidRequest, "invalid_base64_image", false},
	fault.ImageEmpty:       {http.StatusBadRequest, invalidRequest, "empty_image_file", false},
	fault.ImageFormat:      {http.StatusBadRequest, invalidRequest, "image_parse_error", false},
	fault.ImageTooLarge:    {http.StatusBadRequest, invalidRequest, "image_too_large", false},
	fault.ImageFileTooBig:  {http.StatusBadRequest, invalidRequest, "image_file_too_large", false},
	fault.ImageUnreachable: {http.StatusBadRequest, invalidRequest, "failed_to_download_image", false},

	// Retrying does not help if a model does not fit, so it is not a 5xx.
	fault.ModelNotFound:      {http.StatusNotFound, invalidRequest, "model_not_found", false},
	fault.UnsupportedModel:   {http.StatusBadRequest, invalidRequest, "unsupported_model", false},
	fault.InsufficientMemory: {http.StatusBadRequest, invalidRequest, "insufficient_memory", false},
	fault.ContextExceeded:    {http.StatusBadRequest, invalidRequest, "context_length_exceeded", false},
	fault.NotFound:           {http.StatusNotFound, invalidRequest, "", false},
	fault.PreviousNotFound:   {http.StatusBadRequest, invalidRequest, "previous_response_not_found", false},
	fault.ConversationLocked: {http.StatusBadRequest, invalidRequest, "conversation_locked", false},

	fault.UnknownEncoding:  {http.StatusUnsupportedMediaType, invalidRequest, "unsupported_encoding", false},
	fault.BodyTooLarge:     {http.StatusRequestEntityTooLarge, invalidRequest, "request_too_large", false},
	fault.TooExpensive:     {http.StatusBadRequest, invalidRequest, "request_too_expensive", false},
	fault.BodyTooSlow:      {http.StatusRequestTimeout, invalidRequest, "request_timeout", false},
	fault.UnknownPath:      {http.StatusNotFound, invalidRequest, "unknown_url", false},
	fault.MethodNotAllowed: {http.StatusMethodNotAllowed, invalidRequest, "method_not_allowed", false},
	fault.NotImplemented:   {http.StatusNotImplemented, invalidRequest, "not_implemented", true},
	fault.Forbidden:        {http.StatusForbidden, invalidRequest, "forbidden", false},
	fault.Unauthenticated:  {http.StatusUnauthorized, invalidRequest, "invalid_api_key", false},
	fault.MissingScope:     {http.StatusForbidden, invalidRequest, "missing_scope", false},
	fault.UnknownHost:      {http.StatusForbidden, invalidRequest, "unknown_host", false},
	fault.OriginNotAllowed: {http.StatusForbidden, invalidRequest, "origin_not_allowed", false},

	fault.LimitReached: {http.StatusTooManyRequests, rateLimit, "rate_limit_exceeded", false},
	fault.RateLimited:  {http.StatusTooManyRequests, rateLimit, "rate_limit_exceeded", false},
	fault.QueueFull:    {http.StatusTooManyRequests, rateLimit, "rate_limit_exceeded", false},
	fault.QueueWait:    {http.StatusServiceUnavailable, serverError, "queue_wait_too_long", false},
	fault.Overloaded:   {http.StatusServiceUnavailable, serverError, "server_overloaded", false},
	fault.Stopping:     {http.StatusServiceUnavailable, serverError, "model_unavailable", false},
	fault.Loading:      {http.StatusServiceUnavailable, serverError, "model_loading", false},
	fault.DeviceLost:   {http.StatusServiceUnavailable, serverError, "device_unavailable", false},

	fault.Crashed:         {http.StatusInternalServerError, serverError, "engine_crashed", true},
	fault.LoadFailed:      {http.StatusInternalServerError, serverError, "model_load_failed", true},
	fault.SchemaViolation: {http.StatusInternalServerError, serverError, "schema_violation", true},
	fault.Unrecorded:      {http.StatusServiceUnavailable, serverError, "audit_log_unavailable", false},
	fault.Storage:         {http.StatusInternalServerError, serverError, "storage_failed", false},
	fault.StorageFull:     {http.StatusInsufficientStorage, serverError, "storage_full", true},
	fault.Download:        {http.StatusBadGateway, serverError, "download_failed", false},
	fault.Deadline:        {http.StatusGatewayTimeout, serverError, "deadline_exceeded", true},
	fault.Canceled:        {499, serverError, "client_closed_request", false}, // nobody reads this
}

// errorBody is the content of the envelope. It always has all four keys.
type errorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func newErrorBody(e *fault.Error) errorBody {
	f := failures[e.Kind]
	return errorBody{
		Message: e.Message,
		Type:    f.kind,
		Param:   optional(e.Field),
		Code:    optional(f.code),
	}
}

// envelope returns the JSON of an error.
func envelope(e *fault.Error) []byte {
	b, err := json.Marshal(map[string]errorBody{"error": newErrorBody(e)})
	if err != nil {
		return []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":null}}`)
	}
	return b
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Code implements dialect.Dialect.
func (api *API) Code(e *fault.Error) string { return failures[e.Kind].code }

// Fail implements dialect.Dialect.
func (api *API) Fail(w http.ResponseWriter, e *fault.Error) {
	f := failures[e.Kind]
	wire.WriteFault(w, e, f.status, envelope(e), f.final)
}
