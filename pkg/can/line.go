package can

import "encoding/binary"

const timeForm = "it must begin with a time in seconds, (1627274470.529450)"

// parseTime reads "(sec.frac)" with one to nine digits of fraction into f.Time.
func parseTime(line []byte, f *Frame) (rest []byte, reason string) {
	if line[0] != '(' {
		return nil, timeForm
	}
	const maxSeconds = 1<<63/1_000_000_000 - 1
	if len(line) > 18 && line[11] == '.' && line[18] == ')' { // candump's own form: ten digits and six
		head, ok := decimal8(binary.LittleEndian.Uint64(line[1:]))
		tail := binary.LittleEndian.Uint64(line[11:])
		micros10, ok2 := decimal8(tail&0x00ffffffffffff00 | 0x3000000000000030) // with a 0 for the point and the parenthesis
		if d, e := line[9]-'0', line[10]-'0'; ok && ok2 && d <= 9 && e <= 9 {
			if seconds := int64(head)*100 + int64(d)*10 + int64(e); seconds <= maxSeconds {
				f.Time = seconds*1_000_000_000 + int64(micros10)*100
				return line[19:], ""
			}
		}
	}
	var seconds, nanos int64
	i := 1
	for ; i < len(line); i++ {
		d := line[i] - '0'
		if d > 9 {
			break
		}
		if seconds = seconds*10 + int64(d); seconds > maxSeconds {
			return nil, "its time is after the year 2262"
		}
	}
	if i == 1 || i >= len(line) || line[i] != '.' {
		return nil, timeForm
	}
	i++
	digits := 0
	for ; i < len(line) && digits < 10; i++ {
		d := line[i] - '0'
		if d > 9 {
			break
		}
		nanos = nanos*10 + int64(d)
		digits++
	}
	if digits == 0 || digits > 9 || i >= len(line) || line[i] != ')' {
		return nil, timeForm
	}
	for ; digits < 9; digits++ {
		nanos *= 10
	}
	f.Time = seconds*1_000_000_000 + nanos
	return line[i+1:], ""
}

// errorFlag marks an error frame (CAN_ERR_FLAG of linux/can.h).
const errorFlag = 1 << 29

// parseFrame reads identifier, kind and data and returns what follows them.
func parseFrame(s []byte, f *Frame) (rest []byte, reason string) {
	var id uint32
	n := 0
	for ; n < len(s) && n < 9; n++ {
		d := hexValue[s[n]]
		if d > 15 {
			break
		}
		id = id<<4 | uint32(d)
	}
	switch n {
	case 3:
		f.ID = ID(id)
		if f.ID > MaxStandard {
			return nil, "its identifier is above 7FF: write an extended one with 8 hex digits"
		}
	case 8:
		if id >= errorFlag<<1 {
			return nil, "its identifier is above 1FFFFFFF"
		}
		if id&errorFlag != 0 {
			f.Flags = Error
		}
		f.ID = ID(id&^errorFlag) | Extended
	default:
		return nil, "its identifier must have 3 hex digits, or 8 for an extended one"
	}
	if n >= len(s) || s[n] != '#' {
		return nil, "# must follow the identifier"
	}
	s = s[n+1:]
	limit := 8
	if len(s) > 0 && s[0] == '#' {
		if len(s) < 2 || hexValue[s[1]] > 15 {
			return nil, "one hex digit of flags must follow ##"
		}
		if f.Flags&Error != 0 {
			return nil, "an error frame cannot be CAN FD"
		}
		f.Flags |= FD
		if d := hexValue[s[1]]; d&1 != 0 {
			f.Flags |= BitRateSwitch
		}
		if hexValue[s[1]]&2 != 0 {
			f.Flags |= ErrorState
		}
		s = s[2:]
		limit = MaxData
	} else if len(s) > 0 && s[0]|0x20 == 'r' {
		if f.Flags&Error != 0 {
			return nil, "an error frame cannot be a remote request"
		}
		f.Flags |= Remote
		s = s[1:]
		if len(s) > 0 && s[0] >= '0' && s[0] <= '8' {
			f.Len = s[0] - '0'
			s = s[1:]
		}
		return s, ""
	}
	n = 0
	for len(s) >= 8 && n <= limit-4 {
		four, ok := hex8(binary.LittleEndian.Uint64(s))
		if !ok {
			break
		}
		binary.LittleEndian.PutUint32(f.Data[n&(MaxData-4):], four)
		n += 4
		s = s[8:]
	}
	for ; len(s) >= 2; s = s[2:] {
		high, low := hexValue[s[0]], hexValue[s[1]]
		if high|low > 15 {
			break
		}
		if n == limit {
			return nil, "it has more data than its kind of frame may have (8 bytes, 64 for CAN FD)"
		}
		f.Data[n&(MaxData-1)] = high<<4 | low
		n++
	}
	if len(s) > 0 && hexValue[s[0]] <= 15 {
		return nil, "its data has an odd number of hex digits"
	}
	f.Len = uint8(n)
	return s, ""
}

// AppendLine appends f as a line of candump's log format, line feed included, and returns the longer slice. Time is cut to
// whole microseconds, and a time before 1970, which the format cannot say, is written as 0.
func AppendLine(dst []byte, bus string, f *Frame) []byte {
	micros := uint64(max(f.Time, 0)) / 1000
	dst = append(dst, '(')
	dst = appendDecimal(dst, micros/1_000_000, 10)
	dst = append(dst, '.')
	dst = appendDecimal(dst, micros%1_000_000, 6)
	dst = append(dst, ") "...)
	dst = append(dst, bus...)
	dst = append(dst, ' ')
	id, digits := f.ID.Raw(), 3
	if f.ID.IsExtended() {
		digits = 8
	}
	if f.Flags&Error != 0 {
		id, digits = id|errorFlag, 8
	}
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[id>>shift&15])
	}
	dst = append(dst, '#')
	switch {
	case f.Flags&FD != 0:
		flags := byte('0')
		if f.Flags&BitRateSwitch != 0 {
			flags |= 1
		}
		if f.Flags&ErrorState != 0 {
			flags |= 2
		}
		dst = append(dst, '#', flags)
	case f.Flags&Remote != 0:
		dst = append(dst, 'R')
		if f.Len > 0 {
			dst = appendDecimal(dst, uint64(f.Len), 1)
		}
		return append(dst, '\n')
	}
	for _, b := range f.Payload() {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return append(dst, '\n')
}

// appendDecimal appends v with at least width digits.
func appendDecimal(dst []byte, v uint64, width int) []byte {
	var digits [20]byte
	i := len(digits)
	for ; v > 0 || width > 0; width-- {
		i--
		digits[i] = '0' + byte(v%10)
		v /= 10
	}
	return append(dst, digits[i:]...)
}

const ones = 0x0101010101010101 // one in each byte

// decimal8 returns the number that eight decimal digits say, the first of them in the lowest byte of x, and whether they are
// digits. It works on all eight bytes of the word at once (D. Lemire, "Quickly parsing eight digits", 2018).
func decimal8(x uint64) (v uint64, ok bool) {
	ok = x&(0xf0*ones)|(x+0x06*ones)&(0xf0*ones)>>4 == 0x33*ones
	x -= 0x30 * ones
	x = x*10 + x>>8
	return ((x&0x000000ff000000ff)*0x000f424000000064 + (x>>16&0x000000ff000000ff)*0x0000271000000001) >> 32, ok
}

// hex8 returns the four bytes that eight hex digits say, first digit and first byte lowest, and whether they are hex digits.
func hex8(x uint64) (v uint32, ok bool) {
	// For a byte below 0x80, adding 0x80-k sets its top bit exactly when it is at least k, and carries nothing over. A byte
	// from 0x80 on may carry, and comes out as neither digit nor letter.
	const top = 0x80 * ones
	lower := x | 0x20*ones
	digit := (x + (0x80-'0')*ones) &^ (x + (0x80-'9'-1)*ones) & top
	letter := (lower + (0x80-'a')*ones) &^ (lower + (0x80-'f'-1)*ones) & top
	ok = digit|letter == top
	x = x&(0x0f*ones) + letter>>7*9
	x = (x<<4 | x>>8) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16), ok
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func trimLeft(s []byte) []byte {
	for len(s) > 0 && s[0] <= ' ' && isBlank(s[0]) {
		s = s[1:]
	}
	return s
}

func trim(s []byte) []byte {
	s = trimLeft(s)
	for len(s) > 0 && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
