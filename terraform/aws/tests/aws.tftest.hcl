# terraform test: everything is planned and applied against a provider that is made up, so that the
# shape is tested, and no account is needed.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn        = "arn:aws:eks:eu-west-1:123456789012:cluster/headwater"
      identity   = [{ oidc = [{ issuer = "https://oidc.example.com/id/1" }] }]
      vpc_config = { cluster_security_group_id = "sg-1" }
    }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headwater" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/headwater" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/headwater", key_id = "headwater" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-1", latest_version = 1 }
  }
  mock_resource "aws_msk_cluster" {
    defaults = {
      arn                          = "arn:aws:kafka:eu-west-1:123456789012:cluster/headwater/1"
      bootstrap_brokers_sasl_scram = "b-1.example.com:9096,b-2.example.com:9096"
    }
  }
  mock_resource "aws_msk_configuration" {
    defaults = { arn = "arn:aws:kafka:eu-west-1:123456789012:configuration/headwater/1", latest_revision = 1 }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:AmazonMSK_headwater" }
  }
  mock_resource "aws_elasticache_replication_group" {
    defaults = { primary_endpoint_address = "redis.example.com" }
  }
  mock_resource "aws_db_instance" {
    defaults = {
      endpoint           = "postgres.example.com:5432"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds" }]
    }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { id = "headwater-1", bucket = "headwater-1", arn = "arn:aws:s3:::headwater-1" }
  }
}

variables {
  name   = "headwater-test"
  region = "eu-west-1"
}

run "production_survives_the_loss_of_a_zone" {
  assert {
    condition     = aws_msk_cluster.this.number_of_broker_nodes == 3
    error_message = "a broker in each zone"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "a NAT gateway in each zone"
  }
  assert {
    condition     = aws_db_instance.this.multi_az && aws_elasticache_replication_group.this.automatic_failover_enabled
    error_message = "each store has another half elsewhere"
  }
}

run "everything_is_encrypted_and_private" {
  assert {
    condition     = aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible
    error_message = "PostgreSQL"
  }
  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && aws_elasticache_replication_group.this.at_rest_encryption_enabled
    error_message = "Redis"
  }
  assert {
    condition     = one(one(aws_msk_cluster.this.encryption_info).encryption_in_transit).client_broker == "TLS"
    error_message = "Kafka"
  }
  assert {
    condition     = !one(aws_msk_cluster.this.client_authentication).unauthenticated
    error_message = "Kafka asks who it is"
  }
  assert {
    condition     = aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "S3"
  }
  assert {
    condition     = !one(aws_eks_cluster.this.vpc_config).endpoint_public_access
    error_message = "the cluster's API is reached from inside, unless somebody is named"
  }
}

run "the_log_and_the_features_are_never_dropped" {
  assert {
    condition     = strcontains(aws_msk_configuration.this.server_properties, "log.retention.ms=-1")
    error_message = "Kafka keeps everything"
  }
  assert {
    condition     = one(aws_elasticache_parameter_group.this.parameter).value == "noeviction"
    error_message = "Redis evicts nothing"
  }
  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      length(rule.expiration) == 0 || one(rule.filter).prefix == "flink/savepoints/"
    ])
    error_message = "no table file is expired by its age"
  }
}

run "a_small_one_is_small" {
  variables {
    zones        = 2
    nat_per_zone = false
    protect      = false
    redis        = { replicas = 0 }
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_subnet.private) == 2
    error_message = "one NAT gateway, two zones"
  }
  assert {
    condition     = !aws_db_instance.this.multi_az && !aws_db_instance.this.deletion_protection
    error_message = "no second half, and it may go"
  }
}

run "the_charts_values_come_out" {
  assert {
    condition     = yamldecode(output.values).redis.url == "rediss://redis.example.com:6379"
    error_message = "redis.url"
  }
  assert {
    condition     = yamldecode(output.values).iceberg.warehouse == "s3://headwater-1/iceberg"
    error_message = "iceberg.warehouse"
  }
}

run "the_internet_is_not_let_in" {
  command = plan
  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_cidrs]
}

run "a_wrong_name_is_refused" {
  command = plan
  variables {
    name = "Headwater!"
  }
  expect_failures = [var.name]
}
