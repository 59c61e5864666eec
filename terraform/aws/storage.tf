# Iceberg's tables under iceberg/, Flink's checkpoints and savepoints under flink/.
module "storage" {
  source  = "terraform-aws-modules/s3-bucket/aws"
  version = "4.11.0"

  bucket_prefix                         = "${var.name}-"
  force_destroy                         = !var.protect
  attach_deny_insecure_transport_policy = true
  versioning                            = { status = true }

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true

  server_side_encryption_configuration = {
    rule = {
      bucket_key_enabled = true
      apply_server_side_encryption_by_default = {
        sse_algorithm     = "aws:kms"
        kms_master_key_id = module.key.key_arn
      }
    }
  }

  lifecycle_rule = [
    # Savepoints are taken at every upgrade and never removed by Flink. Checkpoints are: their shared
    # files can be as old as the state, so nothing of theirs expires by age.
    {
      id         = "old-savepoints"
      enabled    = true
      filter     = { prefix = "flink/savepoints/" }
      expiration = { days = var.keep_savepoints_days }
    },
    # Tables are never expired by age here: Iceberg's own maintenance knows what is in use.
    {
      id         = "tables-get-cheaper"
      enabled    = true
      filter     = { prefix = "iceberg/" }
      transition = [{ days = 30, storage_class = "INTELLIGENT_TIERING" }]
    },
    {
      id                                     = "removed-is-gone"
      enabled                                = true
      filter                                 = { prefix = "" }
      noncurrent_version_expiration          = { days = 14 }
      abort_incomplete_multipart_upload_days = 2
    },
  ]
}
