// SPDX-License-Identifier: Apache-2.0

package volume

import "fmt"

// FormatName is the name of the file in StateDir that contains the share's Format.
const FormatName = "format.json"

// AddedIDName is the name of the file in StateDir that contains the ID of a share whose Format has
// none. Its content is a Format, too.
const AddedIDName = "id.json"

// Format lists the features that a program must know to change anything in StateDir on a share. A
// program that does not know one of them changes nothing there.
type Format struct {
	Header
	// ID identifies the data on the disk, under any name in a registry: see NewShareID. "": the share
	// was laid out before ids existed.
	ID string `json:"id,omitempty"`
}

var formatFile = recordFile{
	what:   "the format of the share",
	remedy: "restore " + StateDir + "/" + FormatName + " on the share from a backup",
}

// Encode returns the format as it is stored on a share.
func (f Format) Encode() ([]byte, error) { return encode(formatFile, &f) }

// DecodeFormat reads the format of a share. An incomplete format is ErrDamaged. A format that
// requires unknown features is decoded: see CheckRequires.
func DecodeFormat(data []byte) (*Format, error) { return decode(formatFile, data, checkFormat) }

var addedIDFile = recordFile{
	what:   "the id of the share",
	remedy: "remove " + StateDir + "/" + AddedIDName + " on the share: the next volume that is created makes a new one",
}

// DecodeAddedID reads the content of the file AddedIDName.
func DecodeAddedID(data []byte) (*Format, error) { return decode(addedIDFile, data, checkFormat) }

// ReadFormat reads the format of a share, with the ID from either file. read returns the content of a file
// in StateDir, and nothing if the file does not exist. The format is nil if its file does not exist or is
// empty: a crash while it is written leaves an empty file.
func ReadFormat(read func(name string) ([]byte, error)) (*Format, error) {
	data, err := read(FormatName)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	format, err := DecodeFormat(data)
	if err != nil || format.ID != "" {
		return format, err
	}
	data, err = read(AddedIDName)
	if err != nil || len(data) == 0 {
		return format, err
	}
	added, err := DecodeAddedID(data)
	if err != nil {
		return nil, err
	}
	format.ID = added.ID
	return format, nil
}

func checkFormat(f *Format) error {
	if f.ID != "" && !isShareID(f.ID) {
		return fmt.Errorf("its id is %q", f.ID)
	}
	return nil
}

// CheckRequires returns ErrPrecondition if the share requires a feature that this program does not know.
func (f *Format) CheckRequires() error { return formatFile.checkRequires(&f.Header) }

// OldLayoutError returns the ErrPrecondition for a share that has volumes and no Format.
func OldLayoutError() error {
	return Errorf(ErrPrecondition, "%s on the share was laid out by a Mooring from before the first release (there is no %s/%s), and this one cannot read it; nothing was changed: delete the volumes with the Mooring that made them, or move %s away and deal with their directories by hand",
		StateDir, StateDir, FormatName, StateDir)
}
