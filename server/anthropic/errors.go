package anthropic

import (
	"encoding/json"
	"fmt"
	"net/http"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// Types of Anthropic's errors.
const (
	invalidRequest      = "invalid_request_error"
	authenticationError = "authentication_error"
	permissionError     = "permission_error"
	notFound            = "not_found_error"
	tooLarge            = "request_too_large"
	rateLimit           = "rate_limit_error"
	apiError            = "api_error"
	timeoutError        = "timeout_error"
	overloaded          = "overloaded_error"
)

// statusOverloaded is Anthropic's own status of a server that has too much to do.
const statusOverloaded = 529

// failure is the form of a fault in Anthropic's API. Clients retry every 5xx, unless it is final.
type failure struct {
	status int
	kind   string
	final  bool
}

// failures is the only table from kinds of faults to statuses and types.
var failures = map[fault.Kind]failure{
	fault.Internal: {http.StatusInternalServerError, apiError, false},

	fault.Malformed:       {http.StatusBadRequest, invalidRequest, false},
	fault.MissingField:    {http.StatusBadRequest, invalidRequest, false},
	fault.UnknownField:    {http.StatusBadRequest, invalidRequest, false},
	fault.WrongType:       {http.StatusBadRequest, invalidRequest, false},
	fault.InvalidValue:    {http.StatusBadRequest, invalidRequest, false},
	fault.IntegerTooSmall: {http.StatusBadRequest, invalidRequest, false},
	fault.IntegerTooLarge: {http.StatusBadRequest, invalidRequest, false},
	fault.DecimalTooSmall: {http.StatusBadRequest, invalidRequest, false},
	fault.DecimalTooLarge: {http.StatusBadRequest, invalidRequest, false},
	fault.ArrayEmpty:      {http.StatusBadRequest, invalidRequest, false},
	fault.ArrayTooLong:    {http.StatusBadRequest, invalidRequest, false},
	fault.StringTooLong:   {http.StatusBadRequest, invalidRequest, false},
	fault.Unsupported:     {http.StatusBadRequest, invalidRequest, false},
	fault.InvalidSchema:   {http.StatusBadRequest, invalidRequest, false},

	fault.ImageURL:         {http.StatusBadRequest, invalidRequest, false},
	fault.ImageBase64:      {http.StatusBadRequest, invalidRequest, false},
	fault.ImageEmpty:       {http.StatusBadRequest, invalidRequest, false},
	fault.ImageFormat:      {http.StatusBadRequest, invalidRequest, false},
	fault.ImageTooLarge:    {http.StatusBadRequest, invalidRequest, false},
	fault.ImageFileTooBig:  {http.StatusBadRequest, invalidRequest, false},
	fault.ImageUnreachable: {http.StatusBadRequest, invalidRequest, false},

	// Retrying does not help if a model does not fit, so it is not a 5xx.
	fault.ModelNotFound:      {http.StatusNotFound, notFound, false},
	fault.UnsupportedModel:   {http.StatusBadRequest, invalidRequest, false},
	fault.InsufficientMemory: {http.StatusBadRequest, invalidRequest, false},
	fault.ContextExceeded:    {http.StatusBadRequest, invalidRequest, false},
	fault.NotFound:           {http.StatusNotFound, notFound, false},
	fault.PreviousNotFound:   {http.StatusNotFound, notFound, false},
	fault.ConversationLocked: {http.StatusBadRequest, invalidRequest, false},

	fault.UnknownEncoding:  {http.StatusUnsupportedMediaType, invalidRequest, false},
	fault.BodyTooLarge:     {http.StatusRequestEntityTooLarge, tooLarge, false},
	fault.TooExpensive:     {http.StatusBadRequest, invalidRequest, false},
	fault.BodyTooSlow:      {http.StatusRequestTimeout, timeoutError, false},
	fault.UnknownPath:      {http.StatusNotFound, notFound, false},
	fault.MethodNotAllowed: {http.StatusMethodNotAllowed, invalidRequest, false},
	fault.NotImplemented:   {http.StatusNotFound, notFound, false}, // as all paths that are not there
	fault.Forbidden:        {http.StatusForbidden, permissionError, false},
	fault.Unauthenticated:  {http.StatusUnauthorized, authenticationError, false},
	fault.MissingScope:     {http.StatusForbidden, permissionError, false},
	fault.UnknownHost:      {http.StatusForbidden, permissionError, false},
	fault.OriginNotAllowed: {http.StatusForbidden, permissionError, false},

	fault.LimitReached: {http.StatusTooManyRequests, rateLimit, false},
	fault.RateLimited:  {http.StatusTooManyRequests, rateLimit, false},
	fault.QueueFull:    {statusOverloaded, overloaded, false},
	fault.QueueWait:    {statusOverloaded, overloaded, false},
	fault.Overloaded:   {statusOverloaded, overloaded, false},
	fault.Stopping:     {http.StatusServiceUnavailable, overloaded, false},
	fault.Loading:      {http.StatusServiceUnavailable, overloaded, false},
	fault.DeviceLost:   {http.StatusServiceUnavailable, overloaded, false},

	fault.Crashed:         {http.StatusInternalServerError, apiError, true},
	fault.LoadFailed:      {http.StatusInternalServerError, apiError, true},
	fault.SchemaViolation: {http.StatusInternalServerError, apiError, true},
	fault.Unrecorded:      {http.StatusServiceUnavailable, overloaded, false},
	fault.Storage:         {http.StatusInternalServerError, apiError, false},
	fault.StorageFull:     {http.StatusInternalServerError, apiError, true},
	fault.Download:        {http.StatusInternalServerError, apiError, false},
	fault.Deadline:        {http.StatusGatewayTimeout, timeoutError, true},
	fault.Canceled:        {499, apiError, false}, // nobody reads this
}

// errorBody is the form of an error, as a response and as an event.
type errorBody struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	RequestID string `json:"request_id"`
}

// envelope returns the JSON of an error.
func envelope(e *fault.Error, id string) []byte {
	body := errorBody{Type: "error", RequestID: id}
	body.Error.Type = failures[e.Kind].kind
	body.Error.Message = message(e)

	b, err := json.Marshal(body)
	if err != nil {
		return []byte(`{"type":"error","error":{"type":"api_error","message":"internal error"}}`)
	}
	return b
}

// message returns an error's message. Claude Code knows a prompt that is too long by its beginning,
// and shortens the conversation.
func message(e *fault.Error) string {
	if e.Kind != fault.ContextExceeded || e.Length == nil {
		return e.Message
	}
	return fmt.Sprintf("prompt is too long: %d tokens > %d maximum", e.Length.Tokens, e.Length.Limit)
}

// Code implements dialect.Dialect.
func (api *API) Code(e *fault.Error) string { return failures[e.Kind].kind }

// Fail implements dialect.Dialect.
func (api *API) Fail(w http.ResponseWriter, e *fault.Error) {
	f := failures[e.Kind]
	wire.WriteFault(w, e, f.status, envelope(e, w.Header().Get(dialect.RequestID)), f.final)
}
