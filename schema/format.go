package schema

// formats are the strings of each format, as patterns. They are narrower than
// the standards where those allow what nobody writes.
var formats = map[string]automaton{
	"date":      lazy(`^` + date + `$`),
	"time":      lazy(`^` + clock + `$`),
	"date-time": lazy(`^` + date + `[Tt]` + clock + `$`),
	"duration": lazy(
		`^P(?:(?:\d{1,9}Y(?:\d{1,9}M(?:\d{1,9}D)?)?|\d{1,9}M(?:\d{1,9}D)?|\d{1,9}D)(?:T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,` +
			`9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S))?|` +
			`T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S)|\d{1,9}W)$`,
	),
	"email":    lazy(`^[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+)*@` + host + `$`),
	"hostname": lazy(`^` + host + `$`),
	"ipv4":     lazy(`^` + ipv4 + `$`),
	"ipv6":     lazy(`^` + ipv6 + `$`),
	"uuid":     lazy(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`),
	"uri": lazy(
		`^[a-zA-Z][a-zA-Z0-9+-]*:(?://` + host + `(?::[0-9]{1,4})?(?:/` + urlPart + `*)*|` + urlPart + `+(?:/` + urlPart +
			`*)*|/` + urlPart + `+(?:/` + urlPart + `*)*)` +
			`(?:\?(?:` + urlPart + `|[/?])*)?(?:#(?:` + urlPart + `|[/?])*)?$`,
	),
}

// otherFormats are those of JSON Schema that are not enforced. Any other, as OpenAPI's password, asserts nothing.
var otherFormats = map[string]bool{
	"idn-email":             true,
	"idn-hostname":          true,
	"iri":                   true,
	"iri-reference":         true,
	"uri-reference":         true,
	"uri-template":          true,
	"json-pointer":          true,
	"relative-json-pointer": true,
	"regex":                 true,
}

const (
	// Years have four digits; the 29th of February is in leap years.
	date = `(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|` +
		`(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|` +
		`(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)`
	// No leap seconds.
	clock = `(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)`
	host  = `(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?)(?:\.[A-Za-z](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?){0,4}`
	octet = `(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`
	ipv4  = octet + `\.` + octet + `\.` + octet + `\.` + octet
	group = `[0-9a-fA-F]{1,4}`
	ipv6  = `(?:(?:` + group + `:){7}` + group + `|(?:` + group + `:){1,6}:` + group + `|(?:` + group +
		`:){1,5}(?::` + group + `){1,2}|::(?:` + group + `(?::` + group + `){0,5})?|(?:` + group + `:){1,7}:)`
	urlPart = `[a-zA-Z0-9._~!$&'()*+,;=:@-]`
)
