package mail

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

// Chart is a few numbers as horizontal bars, the longest first.
type Chart struct {
	Title string `json:"title"`
	Bars  []Bar  `json:"bars"`
}

// Bar is a number with its name.
type Bar struct {
	Label string `json:"label"`
	Value string `json:"value"` // an exact decimal
}

// Number is the bar's number in the picture: names may be in any script, for which the picture has no letters.
func (Bar) Number(i int) string { return strconv.Itoa(i + 1) }

// Measures of the picture, which is twice as fine as it is shown.
const (
	chartWidth  = 1024
	barHeight   = 28
	barStep     = 40
	barLeft     = 64
	barLongest  = 640
	glyphScale  = 3
	glyphStep   = 6 * glyphScale
	glyphHeight = 7 * glyphScale
)

// PNG draws the chart: number, bar and value of each line. Lengths are computed in whole numbers.
func (c *Chart) PNG() ([]byte, error) {
	palette := color.Palette{
		color.White, color.RGBA{0x1f, 0x5f, 0xbf, 0xff}, color.RGBA{0xb2, 0x3b, 0x3b, 0xff}, color.RGBA{0x1c, 0x24, 0x30, 0xff}, color.RGBA{0xdd, 0xe1, 0xe6, 0xff},
	}
	picture := image.NewPaletted(image.Rect(0, 0, chartWidth, barStep*len(c.Bars)+12), palette)
	fill := func(x0, y0, x1, y1 int, ink uint8) {
		draw.Draw(picture, image.Rect(x0, y0, x1, y1), image.NewUniform(palette[ink]), image.Point{}, draw.Src)
	}
	sums, longest := make([]*sheet.Sum, len(c.Bars)), &sheet.Sum{}
	for i, bar := range c.Bars {
		sums[i] = &sheet.Sum{}
		sums[i].Add(bar.Value)
		if sums[i].Compare(longest) > 0 {
			longest = sums[i]
		}
	}
	fill(barLeft-2, 0, barLeft, picture.Rect.Max.Y, 4)
	for i, bar := range c.Bars {
		top := 6 + i*barStep
		length, ink := int(sums[i].Times(barLongest, longest)), uint8(1)
		if bar.Value != "" && bar.Value[0] == '-' {
			ink = 2
		}
		if length < 0 {
			length = -length
		}
		fill(barLeft, top, barLeft+max(length, 2), top+barHeight, ink)
		number := bar.Number(i)
		middle := top + (barHeight-glyphHeight)/2
		write(picture, barLeft-16-glyphStep*len(number), middle, number, 3)
		write(picture, barLeft+length+12, middle, short(bar.Value), 3)
	}
	var b bytes.Buffer
	err := png.Encode(&b, picture)
	return b.Bytes(), err
}

// short is a value as far as there is room for it.
func short(value string) string {
	const room = (chartWidth - barLeft - barLongest - 12) / glyphStep
	if len(value) > room {
		return value[:room-1] + "~"
	}
	return value
}

// glyphs are the characters of a decimal, five by seven points: a row is five bits.
var glyphs = map[rune][7]uint8{ //nolint:gochecknoglobals // a table of constants
	'0': {14, 17, 19, 21, 25, 17, 14}, '1': {4, 12, 4, 4, 4, 4, 14}, '2': {14, 17, 1, 2, 4, 8, 31}, '3': {31, 2, 4, 2, 1, 17, 14},
	'4': {2, 6, 10, 18, 31, 2, 2}, '5': {31, 16, 30, 1, 1, 17, 14}, '6': {6, 8, 16, 30, 17, 17, 14}, '7': {31, 1, 2, 4, 8, 8, 8},
	'8': {14, 17, 17, 14, 17, 17, 14}, '9': {14, 17, 17, 15, 1, 2, 12}, '.': {0, 0, 0, 0, 0, 12, 12}, '-': {0, 0, 0, 31, 0, 0, 0},
	'~': {0, 0, 8, 21, 2, 0, 0},
}

// write draws a decimal.
func write(picture *image.Paletted, x, y int, text string, ink uint8) {
	for i, c := range text {
		for row, bits := range glyphs[c] {
			for column := range 5 {
				if bits>>(4-column)&1 == 0 {
					continue
				}
				for dy := range glyphScale {
					for dx := range glyphScale {
						picture.SetColorIndex(x+i*glyphStep+column*glyphScale+dx, y+row*glyphScale+dy, ink)
					}
				}
			}
		}
	}
}
