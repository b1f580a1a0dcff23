// Package live keeps a configuration in a struct that follows etcd and is always good: each
// one is the state of one revision, decoded, validated as a whole, and swapped at once. A
// bad one is named and never served.
//
//	type Config struct {
//		Server  struct{ Host string; Port uint16 }
//		Timeout time.Duration
//	}
//	config, err := live.Open[Config](ctx, client, "/shop/config/",
//		live.WithValidate(func(c *Config) error { … }),
//		live.WithLastGood("/var/lib/shop/config"))
//	if err != nil {
//		return err
//	}
//	defer config.Close()
//	timeout := config.Load().Timeout
//
// # What should I use?
//
//   - [Open] for a key per field, which people and scripts change one by one;
//   - [OpenDocument] for one document of JSON, or of YAML by [WithUnmarshal], under one key;
//   - [Value.Load] wherever the configuration is needed: it takes nanoseconds;
//   - [Value.Changes] where a change has to be acted on, such as a pool to be resized;
//   - [Value.Rejections] for the log, and [Value.Status] for the health page;
//   - [WithLastGood] for a service that has to start while etcd is away.
//
// # How keys fill a struct
//
// The rest of a key after the prefix is the path of a field; "/" separates. With the prefix
// "/shop/config/", the key "/shop/config/server/port" fills Server.Port. Names are those of
// the fields, or of their tags (`mapstructure:"name"`), whatever the case; tags of other
// packages, such as json, don't count. Embedded structs count as part of the struct around
// them, a field tagged "-" is left alone, and one tagged ",remain", a map[string]any, takes
// what names no field. [go-viper/mapstructure] decodes, with these rules:
//
//   - Numbers are written as in Go, and refused when they are out of range or lose digits.
//     Bools are those of [strconv.ParseBool]. White space around them doesn't count. An empty
//     value is none of these.
//   - A [time.Duration] has a unit ("1m30s"), a [time.Time] is in RFC 3339, a [url.URL] and
//     whatever implements [encoding.TextUnmarshaler] parse themselves.
//   - A string or a []byte is the value as it is.
//   - A list is JSON if it begins with "[", and separated by commas otherwise.
//   - A map has a key for each entry ("limits/alice"), or is JSON under one key. So is a
//     struct.
//
// The same goes for documents, where lists, maps and structs are what they are there, and
// numbers in fields of type any are [json.Number]. A duration is a string there too. A null
// makes a field zero, whatever its default.
//
// Two keys for one field, such as "port" and "Port", or "server" and "server/port", make a
// configuration bad, as does a value that doesn't fit or can't be decrypted. Open checks T
// itself: a field that can't be filled, or two with one name, is an error there.
//
// # What the library promises
//
//   - Load never returns a mixture of revisions, nor a configuration that was not validated,
//     nor an older one after a newer one (but for a cluster that was restored to an older
//     revision). Of revisions that follow one another quickly some are passed over, but if
//     the newest is bad, the last good one before it is served. (Of those that come while
//     one is validated, the newest 1,000 are kept, and 16 MiB of what they replaced.)
//   - Whatever happens to etcd, the connection, the permission or the newest configuration,
//     the last good one is served, and [Value.Status] says what is wrong.
//   - No text of this package holds a value: errors and changes name keys and fields.
//
// [go-viper/mapstructure]: https://pkg.go.dev/github.com/go-viper/mapstructure/v2
package live
