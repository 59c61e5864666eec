# terraform test: everything is planned and applied against a provider that is made up, so that the
# shape is tested, and no account is needed. The modules are the real ones.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012", arn = "arn:aws:iam::123456789012:user/somebody" }
  }
  mock_data "aws_iam_session_context" {
    defaults = { issuer_arn = "arn:aws:iam::123456789012:role/somebody" }
  }
  mock_data "aws_vpc_endpoint_service" {
    defaults = { service_name = "com.amazonaws.eu-west-1.s3" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn                       = "arn:aws:eks:eu-west-1:123456789012:cluster/headwater"
      identity                  = [{ oidc = [{ issuer = "https://oidc.example.com/id/1" }] }]
      vpc_config                = { cluster_security_group_id = "sg-1" }
      certificate_authority     = [{ data = "" }]
      kubernetes_network_config = { service_ipv4_cidr = "172.20.0.0/16" }
    }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headwater" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/headwater" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/id/1" }
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

run "production" {
  variables {
    kafka_secret_written = true
  }
  assert {
    condition     = length(module.network.natgw_ids) == 3 && length(module.network.private_subnets) == 3
    error_message = "a NAT gateway in each of three zones"
  }
  assert {
    condition     = join(",", keys(module.cluster.eks_managed_node_groups)) == "jobs,serving"
    error_message = "both groups of nodes"
  }
  assert {
    condition     = module.kafka.scram_secret_association_id != null
    error_message = "Kafka asks who it is"
  }
  assert {
    condition     = yamldecode(output.values).redis.url == "rediss://redis.example.com:6379"
    error_message = "redis.url"
  }
  assert {
    condition     = yamldecode(output.values).iceberg.warehouse == "s3://headwater-1/iceberg"
    error_message = "iceberg.warehouse"
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
    condition     = length(module.network.natgw_ids) == 1 && length(module.network.private_subnets) == 2
    error_message = "one NAT gateway, two zones"
  }
  assert {
    condition     = module.kafka.scram_secret_association_id == null
    error_message = "a secret that has no value yet is not given to Kafka"
  }
}

run "the_internet_is_not_let_in" {
  command = plan
  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_cidrs]
}

run "a_node_that_runs_none_of_the_images_is_refused" {
  command = plan
  variables {
    nodes = { jobs = { types = ["r7g.large"], min = 1, max = 1 } }
  }
  expect_failures = [var.nodes]
}

run "a_wrong_name_is_refused" {
  command = plan
  variables {
    name = "Headwater!"
  }
  expect_failures = [var.name]
}
