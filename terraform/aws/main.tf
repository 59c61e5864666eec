# Headwater on AWS: a network, EKS, MSK, ElastiCache, RDS and S3, and who may use what, each by a
# public module at one exact version. One file each. What runs in the cluster is terraform/platform.

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

  # A broker in each zone has a copy of everything. One may be away, to be patched or with its zone,
  # and writes go on: so all but one must have what is acknowledged.
  in_sync = max(1, var.zones - 1)
}

module "key" {
  source  = "terraform-aws-modules/kms/aws"
  version = "3.1.1"

  description             = "${var.name}: everything at rest"
  aliases                 = [var.name]
  enable_key_rotation     = true
  deletion_window_in_days = 30
}
