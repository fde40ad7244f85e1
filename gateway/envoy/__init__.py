"""Everything that speaks Envoy: pure rendering of its resources, the files they lie in, and its process."""

# A resource of Envoy's, or a part of one, as its JSON.
Json = dict[str, object]
