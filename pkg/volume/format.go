// SPDX-License-Identifier: Apache-2.0

package volume

import "fmt"

// FormatName is the name of the file in StateDir that has the share's Format.
const FormatName = "format.json"

// AddedIDName is the name of the file in StateDir that has the ID of a share whose Format has none.
// It is a Format, too.
const AddedIDName = "id.json"

// Format says what one has to know of the layout of StateDir on a share. Who does not know all
// that it requires changes nothing there.
type Format struct {
	Header
	// ID is that of what lies on the disk, whatever a registry calls it: see NewShareID. "": the share
	// was laid out before there were ids.
	ID string `json:"id,omitempty"`
}

var formatFile = recordFile{
	what:   "the format of the share",
	remedy: "restore " + StateDir + "/" + FormatName + " on the share from a backup",
}

// Encode returns the format as it stands on a share.
func (f Format) Encode() ([]byte, error) { return encode(formatFile, &f) }

// DecodeFormat reads the format of a share. One that is not whole is ErrDamaged. One that
// requires what this program does not know is decoded: see CheckRequires.
func DecodeFormat(data []byte) (*Format, error) { return decode(formatFile, data, checkFormat) }

var addedIDFile = recordFile{
	what:   "the id of the share",
	remedy: "remove " + StateDir + "/" + AddedIDName + " on the share: the next volume that is created makes a new one",
}

// DecodeAddedID reads what the file AddedIDName says.
func DecodeAddedID(data []byte) (*Format, error) { return decode(addedIDFile, data, checkFormat) }

// ReadFormat reads the format of a share, with the ID wherever that is. read returns what is in a file
// of StateDir, and nothing where there is none. The format is nil where there is none, or an empty one:
// that is what a crash leaves that came while it was written.
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

// CheckRequires returns ErrPrecondition where the share requires what this program does not know.
func (f *Format) CheckRequires() error { return formatFile.checkRequires(&f.Header) }

// OldLayoutError is the error, ErrPrecondition, for a share that has volumes and no Format.
func OldLayoutError() error {
	return Errorf(ErrPrecondition, "%s on the share was laid out by a Mooring from before the first release (there is no %s/%s), and this one cannot read it; nothing was changed: delete the volumes with the Mooring that made them, or move %s away and deal with their directories by hand",
		StateDir, StateDir, FormatName, StateDir)
}
