module "postgres" {
  source  = "terraform-aws-modules/rds/aws"
  version = "6.13.1"

  identifier            = var.name
  engine                = "postgres"
  engine_version        = var.postgres.version
  family                = "postgres${split(".", var.postgres.version)[0]}"
  instance_class        = var.postgres.type
  allocated_storage     = var.postgres.storage
  max_allocated_storage = 10 * var.postgres.storage
  storage_type          = "gp3"

  db_name                             = "headwater"
  username                            = "headwater"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = module.key.key_arn
  iam_database_authentication_enabled = true

  # RDS changes it every week unless it is told otherwise. Jobs have theirs from when they were
  # submitted: docs/runbooks/rotate-secrets.md.
  manage_master_user_password_rotation                   = true
  master_user_password_rotate_immediately                = false
  master_user_password_rotation_automatically_after_days = var.postgres.rotate_days

  storage_encrypted       = true
  kms_key_id              = module.key.key_arn
  multi_az                = var.protect
  backup_retention_period = var.protect ? 14 : 1
  deletion_protection     = var.protect
  skip_final_snapshot     = !var.protect

  create_db_subnet_group = true
  subnet_ids             = module.network.private_subnets
  vpc_security_group_ids = [aws_security_group.stores.id]
  publicly_accessible    = false

  performance_insights_enabled = true

  parameters = [
    { name = "rds.force_ssl", value = "1" },
    # So that tables in it can be captured.
    { name = "rds.logical_replication", value = "1", apply_method = "pending-reboot" },
  ]
}
