# Headwater on AWS: a network, EKS, MSK, ElastiCache, RDS and S3, and who may use what.
# One file each. What runs in the cluster is terraform/platform.

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "headwater", deployment = var.name }
  }
}

data "aws_availability_zones" "here" {
  state = "available"
}

locals {
  zones = slice(data.aws_availability_zones.here.names, 0, var.zones)
}

resource "aws_kms_key" "data" {
  description             = "${var.name}: everything at rest"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.data.key_id
}
