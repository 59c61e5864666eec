# Service accounts act by roles of their own, and hold no key. The annotation
# eks.amazonaws.com/role-arn in the chart's serviceAccounts.annotations names the role.
locals {
  accounts = ["headwater-flink", "headwater-command"]
}

module "platform_role" {
  source  = "terraform-aws-modules/iam/aws//modules/iam-role-for-service-accounts-eks"
  version = "5.60.0"

  role_name        = "${var.name}-platform"
  role_policy_arns = { storage = aws_iam_policy.storage.arn }
  oidc_providers = {
    cluster = {
      provider_arn               = module.cluster.oidc_provider_arn
      namespace_service_accounts = [for account in local.accounts : "${var.namespace}:${account}"]
    }
  }
}

module "volumes_role" {
  source  = "terraform-aws-modules/iam/aws//modules/iam-role-for-service-accounts-eks"
  version = "5.60.0"

  role_name             = "${var.name}-volumes"
  attach_ebs_csi_policy = true
  oidc_providers = {
    cluster = {
      provider_arn               = module.cluster.oidc_provider_arn
      namespace_service_accounts = ["kube-system:ebs-csi-controller-sa"]
    }
  }
}

# terraform/eks gives this role and the next one to who acts by them, and finds them by their names.
module "autoscaler_role" {
  source  = "terraform-aws-modules/iam/aws//modules/iam-role-for-service-accounts-eks"
  version = "5.60.0"

  role_name = "${var.name}-autoscaler"
  # It may look at every group of the account, and change those of this cluster.
  attach_cluster_autoscaler_policy = true
  cluster_autoscaler_cluster_names = [module.cluster.cluster_name]
  oidc_providers = {
    cluster = {
      provider_arn               = module.cluster.oidc_provider_arn
      namespace_service_accounts = ["kube-system:cluster-autoscaler"]
    }
  }
}

module "traces_role" {
  source  = "terraform-aws-modules/iam/aws//modules/iam-role-for-service-accounts-eks"
  version = "5.60.0"

  role_name        = "${var.name}-traces"
  role_policy_arns = { traces = aws_iam_policy.traces.arn }
  oidc_providers = {
    cluster = {
      provider_arn               = module.cluster.oidc_provider_arn
      namespace_service_accounts = ["monitoring:otel-collector"]
    }
  }
}

# X-Ray knows no smaller resource to write to.
data "aws_iam_policy_document" "traces" {
  statement {
    actions   = ["xray:PutTraceSegments"]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "traces" {
  name   = "${var.name}-traces"
  policy = data.aws_iam_policy_document.traces.json
}

data "aws_iam_policy_document" "storage" {
  statement {
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [module.storage.s3_bucket_arn]
  }
  statement {
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = [
      "${module.storage.s3_bucket_arn}/iceberg/*",
      "${module.storage.s3_bucket_arn}/flink/*",
    ]
  }
  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [module.key.key_arn]
  }
}

resource "aws_iam_policy" "storage" {
  name   = "${var.name}-storage"
  policy = data.aws_iam_policy_document.storage.json
}
