-- layers by blob --------------------------------------------------------------------------------------------

-- A layer that many manifests share, as base images are, takes six bytes of the index for each of them, not thirty: with the
-- blob alone as its key the index holds it once.
DROP INDEX manifest_layer_by_blob;
CREATE INDEX manifest_layer_by_blob ON manifest_layer (blob_id);
