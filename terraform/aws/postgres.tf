resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = [for subnet in aws_subnet.private : subnet.id]
}

resource "aws_db_parameter_group" "this" {
  name   = var.name
  family = "postgres${split(".", var.postgres.version)[0]}"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  # So that tables in it can be captured.
  parameter {
    name         = "rds.logical_replication"
    value        = "1"
    apply_method = "pending-reboot"
  }
}

resource "aws_db_instance" "this" {
  identifier                          = var.name
  engine                              = "postgres"
  engine_version                      = var.postgres.version
  instance_class                      = var.postgres.type
  allocated_storage                   = var.postgres.storage
  max_allocated_storage               = 10 * var.postgres.storage
  storage_type                        = "gp3"
  db_name                             = "headwater"
  username                            = "headwater"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = aws_kms_key.data.arn
  storage_encrypted                   = true
  kms_key_id                          = aws_kms_key.data.arn
  multi_az                            = var.protect
  backup_retention_period             = var.protect ? 14 : 1
  deletion_protection                 = var.protect
  skip_final_snapshot                 = !var.protect
  final_snapshot_identifier           = var.protect ? "${var.name}-last" : null
  db_subnet_group_name                = aws_db_subnet_group.this.name
  parameter_group_name                = aws_db_parameter_group.this.name
  vpc_security_group_ids              = [aws_security_group.stores.id]
  publicly_accessible                 = false
  performance_insights_enabled        = true
  auto_minor_version_upgrade          = true
  iam_database_authentication_enabled = true
}
