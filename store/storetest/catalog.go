package storetest

import (
	"bytes"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Catalog adds a catalog that lists one archive, and returns the digests of its
// chunks.
func (sn *Snapshot) Catalog(archive string, root *Node) []name.Digest {
	sn.s.t.Helper()
	b, err := CatalogOf(archive, root)
	if err != nil {
		sn.s.t.Fatal(err)
	}
	return sn.Dynamic(name.Catalog.String(), Pieces(b)...)
}

// CatalogOf returns a catalog that lists one archive.
func CatalogOf(archive string, root *Node) ([]byte, error) {
	var out bytes.Buffer
	e := catalog.NewEncoder(&out)
	err := catalogDir(e, archive, root)
	if err == nil {
		err = e.Close()
	}
	return out.Bytes(), err
}

func catalogDir(e *catalog.Encoder, name string, n *Node) error {
	if err := e.StartDir(name); err != nil {
		return err
	}
	for _, k := range n.Kids {
		var err error
		if k.To == nil && k.Mode&pxar.TypeMask == pxar.TypeDir {
			err = catalogDir(e, k.Name, k)
		} else {
			err = e.Add(catalogEntry(k))
		}
		if err != nil {
			return err
		}
	}
	return e.EndDir()
}

func catalogEntry(n *Node) catalog.Entry {
	out := catalog.Entry{Name: n.Name, Kind: catalog.HardLink}
	if n.To != nil {
		return out
	}
	switch n.Mode & pxar.TypeMask {
	case pxar.TypeRegular:
		return catalog.Entry{Name: n.Name, Kind: catalog.File, Size: uint64(len(n.Data)), Mtime: n.Sec}
	case pxar.TypeSymlink:
		out.Kind = catalog.Symlink
	case pxar.TypeBlockDevice:
		out.Kind = catalog.BlockDevice
	case pxar.TypeCharDevice:
		out.Kind = catalog.CharDevice
	case pxar.TypeFIFO:
		out.Kind = catalog.Fifo
	case pxar.TypeSocket:
		out.Kind = catalog.Socket
	}
	return out
}
