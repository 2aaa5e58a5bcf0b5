package find

// SetLimit makes the search read no more than n bytes of metadata before it walks.
func (s *Search) SetLimit(n int64) { s.limit = n }
