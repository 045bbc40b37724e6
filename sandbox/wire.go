package sandbox

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
)

// marshal and unmarshal carry a value from the parent to sbx-init, which is the same
// binary: fields in order, numbers as varints, text and lists with their length before
// them, and an address as text. A field that is not exported cannot arrive; TestWire finds it.
// encoding/json took half a millisecond of every start for this, with gob it is more.

func marshal(v any) []byte { return appendValue(nil, reflect.ValueOf(v).Elem()) }

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.String:
		return append(binary.AppendUvarint(b, uint64(v.Len())), v.String()...)
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...)
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
		return b
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return appendValue(append(b, 1), v.Elem())
	case reflect.Struct:
		if text, ok := v.Addr().Interface().(encoding.TextAppender); ok {
			address, _ := text.AppendText(nil) // an invalid one is empty
			return append(binary.AppendUvarint(b, uint64(len(address))), address...)
		}
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
		return b
	}
	panic(fmt.Sprintf("bug in sbx: a plan holds a %v", v.Type()))
}

var errShort = errors.New("the message is cut short")

func unmarshal(b []byte, v any) error {
	rest, err := readValue(b, reflect.ValueOf(v).Elem())
	if err == nil && len(rest) > 0 {
		return errors.New("the message is too long")
	}
	return err
}

func readValue(b []byte, v reflect.Value) (rest []byte, err error) {
	switch v.Kind() {
	case reflect.Bool:
		n, b, err := readUint(b)
		v.SetBool(n != 0)
		return b, err
	case reflect.Int, reflect.Int64:
		n, size := binary.Varint(b)
		if size <= 0 {
			return nil, errShort
		}
		v.SetInt(n)
		return b[size:], nil
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, b, err := readUint(b)
		v.SetUint(n)
		return b, err
	case reflect.String:
		text, b, err := readBytes(b)
		v.SetString(string(text))
		return b, err
	case reflect.Slice:
		return readSlice(b, v)
	case reflect.Array:
		for i := range v.Len() {
			if b, err = readValue(b, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return b, nil
	case reflect.Pointer:
		n, b, err := readUint(b)
		if err != nil || n == 0 {
			return b, err
		}
		v.Set(reflect.New(v.Type().Elem()))
		return readValue(b, v.Elem())
	case reflect.Struct:
		if address, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			text, b, err := readBytes(b)
			if err == nil {
				err = address.UnmarshalText(text)
			}
			return b, err
		}
		for i := range v.NumField() {
			if b, err = readValue(b, v.Field(i)); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return nil, fmt.Errorf("bug in sbx: a plan holds a %v", v.Type())
}

func readSlice(b []byte, v reflect.Value) ([]byte, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		text, b, err := readBytes(b)
		if len(text) > 0 {
			v.SetBytes(text)
		}
		return b, err
	}
	n, b, err := readUint(b)
	if err != nil || n > uint64(len(b)) { // every element takes a byte at least
		return nil, errShort
	}
	if n > 0 {
		v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	}
	for i := range int(n) {
		if b, err = readValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func readBytes(b []byte) (text, rest []byte, err error) {
	n, b, err := readUint(b)
	if err != nil || n > uint64(len(b)) || n > math.MaxInt32 {
		return nil, nil, errShort
	}
	return b[:n:n], b[n:], nil
}

func readUint(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, b[size:], nil
}
